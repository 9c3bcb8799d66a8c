/* checkout.h: the errand of create_checkout: an order, Paymob's intention for it, the link. */
#ifndef SPARKY_CHECKOUT_H
#define SPARKY_CHECKOUT_H

#include "errand.h"

/* Of PURPOSE_CHECKOUT. Its answer is ACCEPTED with an order (open, or failed: its row says why), or REFUSED where none was made. */
extern const ErrandType sparky_checkout_errand;

/* Is this order's checkout under way in this worker? */
extern bool sparky_checkout_in_hand(const pg_uuid_t *order_id);

/* What is still to be set before anything can be sold, as one text; NULL: nothing. */
extern char *sparky_checkout_missing(void);

#endif
