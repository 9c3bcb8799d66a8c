/*
 * paymob.h: the Paymob service of the emulator, between its own files.
 *
 *   paymob.c          reads a request, decides, answers
 *   paymob_check.c    what the real service refuses, and a bit more
 *   paymob_state.c    orders, transactions and tokens at "Paymob"
 *   paymob_body.c     the transaction object, the callback around it, its digest
 *   paymob_control.c  makes things happen at Paymob: /_control/paymob
 *   paymob_fault.c    the scripted faults
 *
 * Orders and transactions are JSON objects that belong to paymob_state.c: they
 * are touched only between paymob_lock() and paymob_unlock().
 */
#ifndef EMULATOR_PAYMOB_H
#define EMULATOR_PAYMOB_H

#include "emulator.h"

typedef enum PaymobRoute
{
	PAYMOB_NOWHERE = 0, PAYMOB_INTENTION, PAYMOB_TOKEN, PAYMOB_TRANSACTION, PAYMOB_INQUIRY
} PaymobRoute;

typedef struct PaymobCall
{
	const Request *request;
	PaymobRoute route;
	const char *kind;			/* intention, token, transaction, inquiry, other: for scripts and the log */
	json_t	   *body;			/* NULL: not JSON, or none */
	char	   *parse_error;
	json_int_t	transaction_id;	/* PAYMOB_TRANSACTION; 0: not a number */
	json_t	   *made;			/* what paymob_good() answered, before it became text; NULL: an error */
} PaymobCall;

#define PAYMOB_INTEGRATIONS 8

typedef struct PaymobSettings
{
	const char *secret_key;		/* NULL: any */
	const char *api_key;		/* NULL: any */
	const char *hmac_secret;
	json_int_t	integrations[PAYMOB_INTEGRATIONS];
	int			integration_count;
	json_int_t	owner;
	const char *currency;
	_Atomic int token_seconds;	/* how long a token is good */
} PaymobSettings;

extern PaymobSettings paymob_settings;

/* The --paymob-... options of the command line; false: not a good value. */
extern bool paymob_option(const char *name, const char *value);

/* paymob.c: does what was asked and writes the good answer, or the error that the state makes it. */
extern void paymob_good(PaymobCall *call, Reply *reply);
extern void paymob_reply(Reply *reply, int status, json_t *body);	/* takes the body */
extern void paymob_detail(Reply *reply, int status, const char *format,...) __attribute__((format(printf, 3, 4)));

/* paymob_check.c: false: refused, and the reply says so. */
extern bool paymob_check(PaymobCall *call, Reply *reply);
extern bool paymob_integration_known(json_int_t id);

/* paymob_state.c: under the lock. */
extern void paymob_lock(void);
extern void paymob_unlock(void);
extern void paymob_reset(void);		/* takes the lock itself */
/* A new order, borrowed; id 0: the next one; reference may be NULL. NULL: reference or id is taken. */
extern json_t *paymob_order_new(json_int_t id, json_int_t amount, const char *currency, const char *reference);
extern json_t *paymob_order_find(json_int_t id);
extern json_t *paymob_order_by_reference(const char *reference);
extern bool paymob_reference_used(const char *reference);
/* Registers a transaction (taken) as the order's last one; false: its id is taken, or of another order. */
extern bool paymob_transaction_add(json_t *order, json_t *transaction);
extern json_t *paymob_transaction_find(json_int_t id);
extern json_t *paymob_transaction_last(const json_t *order);	/* NULL: none */
extern json_int_t paymob_transaction_next(void);
extern void paymob_ids(json_int_t order, json_int_t transaction);	/* where to go on; 0: as it is */
extern void paymob_token_new(char token[65]);
extern bool paymob_token_good(const char *token);
extern void paymob_random_hex(char *out, size_t digits);
extern json_t *paymob_state_show(void);

/* paymob_body.c */
typedef struct PaymobPayment
{
	const char *method;			/* card, wallet, kiosk, apple_pay, cash */
	json_int_t	id;
	json_int_t	amount;
	const char *currency;
	json_int_t	integration_id;
	json_int_t	owner;
	const char *created_at;		/* NULL: now */
} PaymobPayment;

extern const char *const paymob_methods[];	/* ends with NULL */
/* A transaction of this order that neither succeeded nor failed yet; new reference. */
extern json_t *paymob_transaction_make(const json_t *order, const PaymobPayment *payment);
/* Naive local time with six decimals, as Egypt sends it. */
extern void paymob_now(char out[40]);
/* Sets "a.b.c" in an object, making objects on the way; value is copied. false: a part is no object. */
extern bool paymob_set(json_t *object, const char *path, const json_t *value);
/*
 * The callback's bytes and its digest (128 hex digits).  raw: {"path": "JSON as it shall stand"}
 * or NULL; envelope: members beside type and obj, or NULL.  Copies the transaction. false: a path of raw is wrong.
 */
extern bool paymob_callback(const json_t *transaction, const json_t *raw, const json_t *envelope, Buf *body, char hmac[129]);
extern void paymob_hmac(const void *text, size_t len, char hex[129]);

/* paymob_control.c */
extern bool paymob_control(const json_t *body, Buf *out);
extern bool paymob_control_show(const json_t *body, Buf *out);

/* paymob_fault.c */
extern bool paymob_knows_fault(const char *name);
extern void paymob_fault(PaymobCall *call, const json_t *parameters, Reply *reply);

#endif
