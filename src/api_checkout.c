/*
 * api_checkout.c: create_checkout.
 *
 * The order of the checks is part of the contract.  Nothing is written here: the
 * worker makes the order and asks Paymob, since the caller's transaction may roll
 * back, and must not hold anything while bytes are on the network.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"

#include "caller.h"
#include "checkout.h"
#include "mailbox.h"
#include "orders.h"
#include "owner.h"
#include "paymob_send.h"
#include "plans.h"
#include "raise.h"
#include "result.h"
#include "secrets.h"

/* What a client is told to wait where nothing better is known. */
#define RETRY_SOON_SECONDS 30

static void check_product(const Caller *caller, const char *product_id);
static Datum order_result(const SubmissionAnswer *answer);
pg_noreturn static void refuse(const Submission *submission, const SubmissionAnswer *answer);

SPARKY_FACE(sparky_create_checkout, create_checkout);
static Datum
create_checkout(PG_FUNCTION_ARGS)
{
	Submission *submission = palloc0(sizeof(Submission));
	SubmissionAnswer *answer = palloc0(sizeof(SubmissionAnswer));
	Caller		caller;
	char	   *product_id;
	char	   *missing;

	sparky_caller(&caller);
	PreventCommandIfReadOnly("create_checkout");
	if (PG_ARGISNULL(0))
		sparky_raise(WORD_BAD_PARAMETERS, "product_id is required", NULL, 0);
	product_id = text_to_cstring(PG_GETARG_TEXT_PP(0));
	check_product(&caller, product_id);
	missing = sparky_checkout_missing();
	if (missing != NULL)
		sparky_raise(WORD_NOT_CONFIGURED, psprintf("Not set: %s.", missing), NULL, 0);

	submission->purpose = PURPOSE_CHECKOUT;
	submission->job_id = *DatumGetUUIDP(DirectFunctionCall1(gen_random_uuid, (Datum) 0));
	submission->user_id = caller.id;
	/* An id that does not fit is no product's: the check above has refused it. */
	strlcpy(submission->tool_id, product_id, sizeof(submission->tool_id));
	sparky_mailbox_errand(submission, sparky_paymob_timeout_ms(), answer);
	if (answer->result == SUBMISSION_REFUSED)
		refuse(submission, answer);
	return order_result(answer);
}

static void
check_product(const Caller *caller, const char *product_id)
{
	OwnerScope	scope;
	Product		product;

	sparky_owner_enter(&scope);
	sparky_secrets_refresh();
	if (strlen(product_id) >= SPARKY_TOOL_ID_BYTES || !sparky_product_read(product_id, &product))
		sparky_raise(WORD_PRODUCT_NOT_FOUND, NULL, NULL, 0);
	if (product.is_plan && sparky_plans_is_downgrade(&caller->id, product.plan_id, GetCurrentTimestamp()))
		sparky_raise(WORD_PLAN_DOWNGRADE, NULL, NULL, 0);
	sparky_owner_leave(&scope);
}

static Datum
order_result(const SubmissionAnswer *answer)
{
	OwnerScope	scope;
	ErrorWord	error;
	char	   *json;

	sparky_owner_enter(&scope);
	json = sparky_orders_result(&answer->job_id, &error);
	if (json != NULL)
		json = MemoryContextStrdup(scope.caller_context, json);
	sparky_owner_leave(&scope);
	if (json == NULL)
		sparky_raise(error == WORD_NONE ? WORD_ACCOUNT_GONE : error,
					 psprintf("Paymob made no checkout for order %s; nothing was charged.", sparky_uuid_text(&answer->job_id)), NULL, 0);
	return sparky_jsonb(json);
}

static void
refuse(const Submission *submission, const SubmissionAnswer *answer)
{
	const char *detail = answer->text[0] != '\0' ? answer->text : NULL;

	if (answer->error == WORD_PROVIDER_TIMEOUT)
		detail = psprintf("Order %s goes on; ask again for the same product.", sparky_uuid_text(&submission->job_id));
	sparky_raise(answer->error, detail, NULL, answer->retry_after > 0 ? answer->retry_after : RETRY_SOON_SECONDS);
}
