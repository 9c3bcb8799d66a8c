/*
 * payment_decision.c: see payment_decision.h.
 *
 * Two events are about one payment when id and integration_id, written one after
 * the other, are the same text: that text is what is signed.  Where one of our
 * integrations ends like another, digits moved between the two give a second
 * transaction that nobody paid; so told, it is the same payment still.
 */
#include "payment_decision.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

typedef struct Terms
{
	int64_t		amount;
	const char *currency;
	int			payments;		/* different ones that pay the order */
} Terms;

typedef struct Reversed
{
	int64_t		cents;
	bool		voided;
	bool		ask;
} Reversed;

static bool same_payment(const PaymentFact *a, const PaymentFact *b);
static bool pays(const PaymentFact *fact, const Terms *terms);
static bool reverses(const PaymentFact *fact, const Terms *terms);
static bool is_first(const PaymentFact *facts, int index, const Terms *terms);
static PaymentOutcome judge(const PaymentFact *fact, const Terms *terms);
static Reversed reversed_of(const PaymentFact *facts, int count, int payment, const Terms *terms);
static int	payment_of_child(const PaymentFact *facts, int count, const PaymentFact *child, const Terms *terms);
static void tell(const PaymentFact *facts, int count, PaymentDecision *decision, int64_t amount);

void
sparky_payment_decide(PaymentFact *facts, int count, int64_t amount, const char *currency, PaymentDecision *decision)
{
	Terms		terms = {amount, currency, 0};

	memset(decision, 0, sizeof(*decision));
	decision->fulfilling = decision->telling = -1;
	for (int i = 0; i < count; i++)
	{
		facts[i].outcome = judge(&facts[i], &terms);
		if (pays(&facts[i], &terms) && is_first(facts, i, &terms))
			terms.payments++;
	}
	for (int i = 0; i < count; i++)
	{
		Reversed	reversed;

		if (!pays(&facts[i], &terms))
			continue;
		if (decision->fulfilling < 0)
			decision->fulfilling = i;
		else if (!same_payment(&facts[i], &facts[decision->fulfilling]))
			facts[i].outcome = PAYMENT_DUPLICATE;
		if (!is_first(facts, i, &terms))
			continue;
		reversed = reversed_of(facts, count, i, &terms);
		decision->ask |= reversed.ask;
		if (!decision->paid || reversed.cents < decision->reversed)
			decision->reversed = reversed.cents;
		decision->voided |= reversed.voided;
		decision->paid = true;
	}
	decision->voided &= decision->reversed >= amount;
	tell(facts, count, decision, amount);
}

void
sparky_payment_unmatched(PaymentFact *facts, int count, PaymentDecision *decision)
{
	memset(decision, 0, sizeof(*decision));
	decision->fulfilling = decision->telling = -1;
	for (int i = 0; i < count; i++)
		facts[i].outcome = facts[i].ours ? PAYMENT_UNMATCHED : PAYMENT_MISMATCH;
	tell(facts, count, decision, 0);
}

static PaymentOutcome
judge(const PaymentFact *fact, const Terms *terms)
{
	if (!fact->ours)
		return PAYMENT_MISMATCH;
	if (fact->pays)
		return pays(fact, terms) ? PAYMENT_FULFILLED : PAYMENT_MISMATCH;
	if (fact->voids || fact->refunds)
		return reverses(fact, terms) ? PAYMENT_REVERSAL : PAYMENT_MISMATCH;
	if (fact->status == PAYMENT_STATUS_SUCCESS)
		return fact->amount == terms->amount && strcmp(fact->currency, terms->currency) == 0 ? PAYMENT_HELD : PAYMENT_MISMATCH;
	return PAYMENT_NOT_PAID;
}

static bool
pays(const PaymentFact *fact, const Terms *terms)
{
	return fact->ours && fact->pays && fact->amount == terms->amount && strcmp(fact->currency, terms->currency) == 0;
}

static bool
reverses(const PaymentFact *fact, const Terms *terms)
{
	if (!fact->ours || (!fact->voids && !fact->refunds) || strcmp(fact->currency, terms->currency) != 0)
		return false;
	return fact->child ? fact->amount > 0 && fact->amount <= terms->amount : fact->amount == terms->amount;
}

static bool
same_payment(const PaymentFact *a, const PaymentFact *b)
{
	char		left[48];
	char		right[48];

	snprintf(left, sizeof(left), "%" PRId64 "%" PRId64, a->transaction, a->integration);
	snprintf(right, sizeof(right), "%" PRId64 "%" PRId64, b->transaction, b->integration);
	return strcmp(left, right) == 0;
}

/* Of the events that pay: is none before it about the same payment? */
static bool
is_first(const PaymentFact *facts, int index, const Terms *terms)
{
	for (int i = 0; i < index; i++)
		if (pays(&facts[i], terms) && same_payment(&facts[i], &facts[index]))
			return false;
	return true;
}

/* How much of one payment was given back. */
static Reversed
reversed_of(const PaymentFact *facts, int count, int payment, const Terms *terms)
{
	int64_t		claimed = 0,	/* by the parent's running total */
				confirmed = 0,
				parts = 0,		/* the children's sum */
				confirmed_parts = 0;
	bool		voided = false,
				lost = false,
				untold = false;

	for (int i = 0; i < count; i++)
	{
		const PaymentFact *fact = &facts[i];

		if (!reverses(fact, terms))
			continue;
		if (!fact->child)
		{
			if (!same_payment(fact, &facts[payment]))
				continue;
			voided |= fact->voids;
			untold |= fact->refunds && fact->refunded == 0;
			if (fact->refunded > claimed)
				claimed = fact->refunded;
			if (fact->confirmed && fact->refunded > confirmed)
				confirmed = fact->refunded;
		}
		else
		{
			int			belongs = payment_of_child(facts, count, fact, terms);
			bool		counted = false,
						sure = fact->confirmed;

			lost |= belongs < 0;
			if (belongs < 0 || !same_payment(&facts[belongs], &facts[payment]))
				continue;
			/* A child is told more than once: it counts once, and is sure if one of these is. */
			for (int j = 0; j < count && !counted; j++)
				if (j != i && reverses(&facts[j], terms) && facts[j].child && facts[j].transaction == fact->transaction)
				{
					counted = j < i;
					sure |= facts[j].confirmed;
				}
			if (counted)
				continue;
			voided |= fact->voids && fact->amount == terms->amount;
			parts += fact->amount;
			confirmed_parts += sure ? fact->amount : 0;
		}
	}
	if (voided || claimed >= terms->amount || parts >= terms->amount)
		return (Reversed) {terms->amount, voided, false};
	if (confirmed_parts > confirmed)
		confirmed = confirmed_parts;
	return (Reversed) {confirmed, false, lost || (untold && confirmed == 0) || claimed > confirmed || parts > confirmed};
}

/* The event of the payment that a child belongs to; -1: it cannot be told, or that payment has not been. */
static int
payment_of_child(const PaymentFact *facts, int count, const PaymentFact *child, const Terms *terms)
{
	int			any = -1;

	for (int i = 0; i < count; i++)
	{
		if (!pays(&facts[i], terms))
			continue;
		if (facts[i].transaction == child->parent)
			return i;
		any = i;
	}
	return child->parent == 0 && terms->payments == 1 ? any : -1;
}

/* The status, and the last event that says it. */
static void
tell(const PaymentFact *facts, int count, PaymentDecision *decision, int64_t amount)
{
	if (decision->paid && decision->reversed == 0)
	{
		decision->status = PAYMENT_STATUS_SUCCESS;
		decision->telling = decision->fulfilling;
		return;
	}
	if (decision->paid)
		decision->status = decision->reversed < amount ? PAYMENT_STATUS_PARTIALLY_REFUNDED
			: decision->voided ? PAYMENT_STATUS_VOIDED : PAYMENT_STATUS_REFUNDED;
	for (int i = 0; i < count; i++)
	{
		const PaymentFact *fact = &facts[i];

		if (fact->outcome == PAYMENT_MISMATCH || fact->outcome == PAYMENT_HELD)
			continue;
		if (decision->paid)
		{
			if (fact->outcome == PAYMENT_REVERSAL)
				decision->telling = i;
		}
		else if (fact->status != PAYMENT_STATUS_NONE && fact->status >= decision->status)
		{
			decision->status = fact->status;
			decision->telling = i;
		}
	}
}

int32_t
sparky_payment_take_back(int32_t credits, int32_t reversed, int32_t amount)
{
	return (int32_t) (((int64_t) credits * reversed + amount - 1) / amount);
}

const char *
sparky_payment_outcome_name(PaymentOutcome outcome)
{
	static const char *const names[] = {"unmatched", "mismatch", "not_paid", "held", "fulfilled", "duplicate_payment", "account_gone", "reversal"};

	return names[outcome];
}

static const char *const status_names[] = {NULL, "PENDING", "FAILED", "SUCCESS", "PARTIALLY_REFUNDED", "REFUNDED", "VOIDED"};

const char *
sparky_payment_status_name(PaymentStatus status)
{
	return status_names[status];
}

PaymentStatus
sparky_payment_status(const char *name)
{
	for (int i = 1; name != NULL && i < (int) (sizeof(status_names) / sizeof(status_names[0])); i++)
		if (strcmp(status_names[i], name) == 0)
			return (PaymentStatus) i;
	return PAYMENT_STATUS_NONE;
}
