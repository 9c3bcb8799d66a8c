/*
 * payment_decision.h: what the events of one Paymob order amount to.
 *
 * A pure function of the set of events: neither their order nor repeats change
 * what is paid and how much of it was given back.  (Which of two payments is
 * called the second one is told by arrival, and nothing but that.)
 *
 * Rules.  An order is paid when an event pays exactly its amount in its
 * currency.  Paid twice, it is given once, and it is given as long as one of the
 * payments stands: what counts as given back is the least of theirs.  A payment is
 * given back as a whole when it is voided, when the parent's total or the sum of its
 * children reaches the amount; a part of it only once an inquiry has confirmed it,
 * since no signature covers which part.
 */
#ifndef SPARKY_PAYMENT_DECISION_H
#define SPARKY_PAYMENT_DECISION_H

#include <stdbool.h>
#include <stdint.h>

typedef enum PaymentOutcome
{
	PAYMENT_UNMATCHED = 0,		/* no order of ours is known by this id */
	PAYMENT_MISMATCH,			/* another amount, currency, integration or owner */
	PAYMENT_NOT_PAID,			/* pending, declined, and what does not concern us */
	PAYMENT_HELD,				/* successful, but not with the flags of a payment: somebody must look */
	PAYMENT_FULFILLED,
	PAYMENT_DUPLICATE,			/* the order was paid already by another transaction: to be given back */
	PAYMENT_ACCOUNT_GONE,		/* paid for an account that is deleted: the same */
	PAYMENT_REVERSAL
} PaymentOutcome;

/* By rank: a payment's status moves to a higher one only. */
typedef enum PaymentStatus
{
	PAYMENT_STATUS_NONE = 0, PAYMENT_STATUS_PENDING, PAYMENT_STATUS_FAILED, PAYMENT_STATUS_SUCCESS,
	PAYMENT_STATUS_PARTIALLY_REFUNDED, PAYMENT_STATUS_REFUNDED, PAYMENT_STATUS_VOIDED
} PaymentStatus;

/* One event, as it was logged; in order of arrival. */
typedef struct PaymentFact
{
	int64_t		event;			/* its id */
	int64_t		transaction;
	int64_t		integration;
	int64_t		parent;			/* 0: not told */
	int64_t		amount;			/* cents; -1: more than an int64 holds, or absent */
	char		currency[4];
	bool		ours;			/* integration and owner are those of the settings */
	bool		child;
	bool		pays;
	bool		voids;
	bool		refunds;
	bool		confirmed;		/* by an inquiry */
	int64_t		refunded;		/* cents */
	PaymentStatus status;		/* what it says by itself */
	PaymentOutcome outcome;		/* set by the decision; PAYMENT_ACCOUNT_GONE is left to the caller */
} PaymentFact;

typedef struct PaymentDecision
{
	bool		paid;
	int			fulfilling;		/* index of the event that pays; -1 */
	int64_t		reversed;		/* cents of the order that count as given back */
	bool		voided;			/* all of it, and by a void */
	bool		ask;			/* a part may have been given back that no inquiry has confirmed */
	PaymentStatus status;		/* of the order's payment; NONE: nothing to tell */
	int			telling;		/* index of the event that says so; -1 */
} PaymentDecision;

/* amount > 0; sets the outcome of each fact. */
extern void sparky_payment_decide(PaymentFact *facts, int count, int64_t amount, const char *currency, PaymentDecision *decision);
/* The same while no order is known: nothing is paid, and status is what the events say by themselves. */
extern void sparky_payment_unmatched(PaymentFact *facts, int count, PaymentDecision *decision);
/* Credits to take back when reversed of amount cents were given back: in proportion, rounded up. 0 <= reversed <= amount, 0 < amount. */
extern int32_t sparky_payment_take_back(int32_t credits, int32_t reversed, int32_t amount);

extern const char *sparky_payment_outcome_name(PaymentOutcome outcome);
extern const char *sparky_payment_status_name(PaymentStatus status);	/* NULL for NONE */
extern PaymentStatus sparky_payment_status(const char *name);	/* NONE for NULL and what is unknown */

#endif
