/*
 * test_payment_decision.c: sets of events and what they amount to; every order
 * and every repeat of a set gives the same.
 */
#include "payment_decision.h"
#include "tap.h"

#define AMOUNT 1000
#define MOST 7

static int64_t next_event = 1;

static PaymentFact
fact(int64_t transaction)
{
	return (PaymentFact) {.event = next_event++, .transaction = transaction, .integration = 77, .amount = AMOUNT, .currency = "EGP", .ours = true};
}

static PaymentFact
payment(int64_t transaction)
{
	PaymentFact made = fact(transaction);

	made.pays = true;
	made.status = PAYMENT_STATUS_SUCCESS;
	return made;
}

static PaymentFact
total(int64_t transaction, int64_t refunded, bool confirmed)
{
	PaymentFact made = fact(transaction);

	made.refunds = true;
	made.refunded = refunded;
	made.confirmed = confirmed;
	made.status = refunded >= AMOUNT ? PAYMENT_STATUS_REFUNDED : PAYMENT_STATUS_PARTIALLY_REFUNDED;
	return made;
}

static PaymentFact
part(int64_t transaction, int64_t parent, int64_t amount, bool confirmed)
{
	PaymentFact made = fact(transaction);

	made.refunds = made.child = true;
	made.parent = parent;
	made.amount = made.refunded = amount;
	made.confirmed = confirmed;
	return made;
}

static PaymentFact
voided(int64_t transaction)
{
	PaymentFact made = fact(transaction);

	made.voids = true;
	made.status = PAYMENT_STATUS_VOIDED;
	return made;
}

static PaymentFact
told(int64_t transaction, PaymentStatus status)
{
	PaymentFact made = fact(transaction);

	made.status = status;
	return made;
}

static PaymentDecision
decide(const PaymentFact *facts, int count, PaymentFact *judged)
{
	PaymentDecision decision;

	memcpy(judged, facts, sizeof(PaymentFact) * count);
	sparky_payment_decide(judged, count, AMOUNT, "EGP", &decision);
	return decision;
}

static bool
same(const PaymentDecision *a, const PaymentDecision *b)
{
	return a->paid == b->paid && a->reversed == b->reversed && a->voided == b->voided && a->ask == b->ask && a->status == b->status;
}

/* Every order of the facts, each followed by a repeat of one of them. */
static bool
invariant(PaymentFact *facts, int count, int fixed, const PaymentDecision *expected)
{
	PaymentFact judged[MOST + 1];

	if (fixed == count)
	{
		PaymentFact more[MOST + 1];
		PaymentDecision found = decide(facts, count, judged);

		if (!same(&found, expected))
			return false;
		memcpy(more, facts, sizeof(PaymentFact) * count);
		for (int i = 0; i < count; i++)
		{
			more[count] = facts[i];
			found = decide(more, count + 1, judged);
			if (!same(&found, expected))
				return false;
		}
		return true;
	}
	for (int i = fixed; i < count; i++)
	{
		PaymentFact kept = facts[fixed];
		bool		fine;

		facts[fixed] = facts[i];
		facts[i] = kept;
		fine = invariant(facts, count, fixed + 1, expected);
		facts[i] = facts[fixed];
		facts[fixed] = kept;
		if (!fine)
			return false;
	}
	return true;
}

static void
expect(PaymentFact *facts, int count, bool paid, int64_t reversed, bool by_void, bool ask, PaymentStatus status, const char *name)
{
	PaymentDecision expected = {.paid = paid, .reversed = reversed, .voided = by_void, .ask = ask, .status = status};

	ok(invariant(facts, count, 0, &expected), "%s", name);
}

#define EXPECT(name, paid, reversed, by_void, ask, status, ...) \
	do { \
		PaymentFact facts[] = {__VA_ARGS__}; \
		expect(facts, sizeof(facts) / sizeof(facts[0]), paid, reversed, by_void, ask, PAYMENT_STATUS_##status, name); \
	} while (0)

static void
sets_of_events(void)
{
	EXPECT("declined, pending", false, 0, false, false, FAILED, told(1, PAYMENT_STATUS_FAILED), told(1, PAYMENT_STATUS_PENDING));
	EXPECT("paid", true, 0, false, false, SUCCESS, told(1, PAYMENT_STATUS_PENDING), told(2, PAYMENT_STATUS_FAILED), payment(1));
	EXPECT("given back as a whole", true, 1000, false, false, REFUNDED, payment(1), total(1, 300, false), total(1, 1000, false));
	EXPECT("voided", true, 1000, true, false, VOIDED, payment(1), voided(1));
	EXPECT("a part, not confirmed", true, 0, false, true, SUCCESS, payment(1), total(1, 300, false));
	EXPECT("a part, confirmed", true, 300, false, false, PARTIALLY_REFUNDED, payment(1), total(1, 300, true));
	EXPECT("two parts, the second not confirmed", true, 300, false, true, PARTIALLY_REFUNDED, payment(1), total(1, 300, true), total(1, 500, false));
	EXPECT("children that add up to the whole", true, 1000, false, false, REFUNDED, payment(1), part(5, 1, 400, false), part(6, 1, 600, false));
	EXPECT("children, one confirmed", true, 400, false, true, PARTIALLY_REFUNDED, payment(1), part(5, 1, 400, true), part(6, 1, 300, false));
	EXPECT("parent and child tell of the same part", true, 400, false, false, PARTIALLY_REFUNDED, payment(1), part(5, 1, 400, true), total(1, 400, true));
	EXPECT("a child that does not name its parent", true, 1000, false, false, REFUNDED, payment(1), part(5, 0, 1000, false));
	EXPECT("the same, and two payments", true, 0, false, true, SUCCESS, payment(1), payment(2), part(5, 0, 1000, false));
	EXPECT("a child of another transaction", true, 0, false, true, SUCCESS, payment(1), part(5, 9, 1000, false));
	EXPECT("paid twice, one given back", true, 0, false, false, SUCCESS, payment(1), payment(2), total(2, 1000, false));
	EXPECT("paid twice, both given back", true, 1000, true, false, VOIDED, payment(1), payment(2), total(2, 1000, false), voided(1));
	EXPECT("paid twice, one in part", true, 0, false, false, SUCCESS, payment(1), payment(2), total(2, 100, true));
	EXPECT("a refund without a payment", false, 0, false, false, REFUNDED, total(1, 1000, false));
	EXPECT("a refund that does not say how much", true, 0, false, true, SUCCESS, payment(1), total(1, 0, false));
}

static void
what_does_not_count(void)
{
	PaymentFact wrong[] = {payment(1), payment(2), payment(3), part(4, 1, AMOUNT + 1, true), total(5, AMOUNT, true), voided(6), told(7, PAYMENT_STATUS_SUCCESS)};
	PaymentFact judged[MOST + 1];
	PaymentDecision decision;

	wrong[0].amount = AMOUNT - 1;
	strcpy(wrong[1].currency, "USD");
	wrong[2].ours = false;
	wrong[4].amount = -1;
	strcpy(wrong[5].currency, "");
	decision = decide(wrong, MOST, judged);
	ok(!decision.paid && decision.status == PAYMENT_STATUS_NONE && decision.telling == -1 && decision.fulfilling == -1, "nothing of this is a payment");
	for (int i = 0; i < MOST - 1; i++)
		is_number(judged[i].outcome, PAYMENT_MISMATCH, "a mismatch");
	is_number(judged[6].outcome, PAYMENT_HELD, "a success of another kind is held");
	sparky_payment_unmatched(wrong, MOST, &decision);
	is_number(wrong[2].outcome, PAYMENT_MISMATCH, "not ours, and no order known");
	is_number(wrong[0].outcome, PAYMENT_UNMATCHED, "ours, and no order known");
	ok(!decision.paid, "nothing is paid while no order is known");
	sparky_payment_decide(NULL, 0, AMOUNT, "EGP", &decision);
	ok(!decision.paid && decision.reversed == 0, "nothing is nothing");
}

static void
moved_digits(void)
{
	PaymentFact facts[] = {payment(1234), payment(12), total(1234, AMOUNT, false)};
	PaymentFact judged[MOST];
	PaymentDecision decision;

	/* 1234|77 and 12|3477 are one text. */
	facts[1].integration = 3477;
	decision = decide(facts, 3, judged);
	ok(decision.paid && decision.reversed == AMOUNT, "the same text cut elsewhere is the same payment, and its refund counts");
	is_number(judged[1].outcome, PAYMENT_FULFILLED, "it is no second payment");
	facts[1].integration = 3478;
	(void) decide(facts, 2, judged);
	is_number(judged[1].outcome, PAYMENT_DUPLICATE, "another text is");
}

static void
in_proportion(void)
{
	is_number(sparky_payment_take_back(100, 0, 1000), 0, "nothing");
	is_number(sparky_payment_take_back(100, 1, 1000), 1, "rounded up");
	is_number(sparky_payment_take_back(100, 333, 1000), 34, "a third");
	is_number(sparky_payment_take_back(100, 1000, 1000), 100, "the whole");
	is_number(sparky_payment_take_back(2147483647, 2147483647, 2147483647), 2147483647, "the largest");
	is_number(sparky_payment_take_back(2147483647, 2147483646, 2147483647), 2147483646, "nearly the largest");
	for (int credits = 1; credits < 40; credits++)
		for (int back = 0; back <= 97; back++)
			if ((int64_t) sparky_payment_take_back(credits, back, 97) * 97 < (int64_t) credits * back
				|| (int64_t) (sparky_payment_take_back(credits, back, 97) - 1) * 97 >= (int64_t) credits * back)
			{
				ok(false, "%d credits, %d of 97", credits, back);
				return;
			}
	ok(true, "never less than the share, never a credit more");
}

static void
names(void)
{
	for (int i = PAYMENT_STATUS_PENDING; i <= PAYMENT_STATUS_VOIDED; i++)
		is_number(sparky_payment_status(sparky_payment_status_name((PaymentStatus) i)), i, "a status is found by its name");
	is_number(sparky_payment_status("NO_SUCH"), PAYMENT_STATUS_NONE, "an unknown one is none");
	is_number(sparky_payment_status(NULL), PAYMENT_STATUS_NONE, "NULL is none");
	ok(strcmp(sparky_payment_outcome_name(PAYMENT_REVERSAL), "reversal") == 0, "outcomes have names");
}

int
main(void)
{
	sets_of_events();
	what_does_not_count();
	moved_digits();
	in_proportion();
	names();
	return done();
}
