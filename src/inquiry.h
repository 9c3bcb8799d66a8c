/* inquiry.h: asking Paymob what became of an order, when no callback told. */
#ifndef SPARKY_INQUIRY_H
#define SPARKY_INQUIRY_H

#include "postgres.h"
#include "datatype/timestamp.h"

/* In a transaction, as an errand's begin: an errand for each order that is due, as far as there is room. */
extern void sparky_inquiry_enlist_due(TimestampTz now);

#endif
