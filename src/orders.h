/*
 * orders.h: rows of public.orders, from their making to the checkout link, and
 * when Paymob is to be asked about them.  SPI connected, owner scope entered;
 * never a transaction of its own, never waits for a row: one that somebody holds
 * is reported as busy.  Payments (payments.c) move an order from there on.
 */
#ifndef SPARKY_ORDERS_H
#define SPARKY_ORDERS_H

#include "postgres.h"
#include "datatype/timestamp.h"
#include "utils/uuid.h"

#include "credits.h"
#include "outcome.h"

/* How long a checkout link can be used; Paymob is told. */
#define SPARKY_CHECKOUT_LIFETIME_S 3600
/* How long it is given out again to who asks for the same product. */
#define SPARKY_CHECKOUT_REUSE_S 1800
/* Orders of one user within an hour. */
#define SPARKY_CHECKOUTS_PER_HOUR 10
/* Paymob is asked at most so often about one order: with the default delay about a week. */
#define SPARKY_MOST_INQUIRIES 14

typedef struct Product
{
	char	   *id;
	bool		is_plan;
	int64		plan_id;		/* of a plan */
	int			credits;		/* of a pack */
	int			period_days;
	int			amount_cents;
	char	   *currency;
} Product;

/* A product that is for sale; false: there is none of this id. */
extern bool sparky_product_read(const char *id, Product *product);

/* What Paymob is told of the buyer; texts are NULL when unknown. Personal: never log it. */
typedef struct Buyer
{
	char	   *name;
	char	   *email;
	char	   *phone;
} Buyer;

extern void sparky_orders_buyer(const pg_uuid_t *user_id, Buyer *buyer);

typedef enum OrderStatus { ORDER_CREATED, ORDER_OPEN, ORDER_FAILED, ORDER_PAID, ORDER_REFUNDED, ORDER_VOIDED } OrderStatus;

typedef struct Order
{
	pg_uuid_t	id;
	OrderStatus status;
	char	   *reference;		/* merchant_order_id */
	int64		intention_order_id; /* 0: not known */
	bool		inquire;		/* it has a time at which Paymob is to be asked */
	TimestampTz inquire_at;
	int			inquiries;
} Order;

/* Without a lock; false: no such order. */
extern bool sparky_orders_read(const pg_uuid_t *id, Order *order);
/* Lock it without waiting; order is filled when it is ROW_LOCKED. */
extern RowLock sparky_orders_lock(const pg_uuid_t *id, Order *order);

/* A link that can be given out again: open, of this user, for this very product as it is now, not tried yet. */
extern bool sparky_orders_reusable(const pg_uuid_t *user_id, const Product *product, TimestampTz now, pg_uuid_t *id);
/* Orders of this user and product whose checkout is still to come; at most size. */
extern int	sparky_orders_unopened(const pg_uuid_t *user_id, const char *product_id, pg_uuid_t *ids, int size);
/* True: no more within this hour; retry_after says when. */
extern bool sparky_orders_too_many(const pg_uuid_t *user_id, TimestampTz now, int *retry_after);
/* Everything is copied from the product; the reference is the id as text. */
extern void sparky_orders_insert(const pg_uuid_t *id, const pg_uuid_t *user_id, const Product *product, TimestampTz now, TimestampTz inquire_at);

/* Is an order of Paymob's one of ours? */
extern bool sparky_orders_has(int64 intention_order_id);

/* After a lock: the buyer can pay. */
extern void sparky_orders_open(const pg_uuid_t *id, int64 intention_order_id, const char *client_secret, const char *checkout_url, TimestampTz inquire_at);
/* After a lock: no checkout came of it. inquire_at: 0 where Paymob need not be asked. */
extern void sparky_orders_fail(const pg_uuid_t *id, ErrorWord error, TimestampTz inquire_at);
/* After a lock: what Paymob's events about it will carry. */
extern void sparky_orders_learn(const pg_uuid_t *id, int64 intention_order_id);

/* Orders whose time to be asked about has come, the longest due first; only those without a checkout where unopened_only. At most limit. */
extern int	sparky_orders_due(TimestampTz now, bool unopened_only, int limit, pg_uuid_t *ids);
/* After a lock: it is being asked about now, and again at next (0: never). */
extern void sparky_orders_note_inquiry(const pg_uuid_t *id, TimestampTz next);
/* After a lock: nothing is left to ask. */
extern void sparky_orders_ask_no_more(const pg_uuid_t *id);
/* Does an event tell of more given back than what is booked? */
extern bool sparky_orders_doubtful(const pg_uuid_t *id);
/* The transaction of Paymob's that paid this order, 0 if none did. */
extern int64 sparky_orders_transaction(int64 intention_order_id);

/* What create_checkout returns, as JSON text, by the latest snapshot; NULL: no such order, or it failed and *error says why. */
extern char *sparky_orders_result(const pg_uuid_t *id, ErrorWord *error);

#endif
