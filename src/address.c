/*
 * address.c: the digest of an address, by which a second account of it is known.
 *
 * Addresses of accounts that are gone must not be kept; so their HMAC is, under
 * a key that stays with the data for ever.  Whoever has the table but not the
 * key cannot try addresses against it.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "utils/builtins.h"

#include "compat.h"
#include "crypto.h"
#include "owner.h"

/* sparky.address_digest(address): of a normalised address; NULL while there is no key. */
SPARKY_FUNCTION(sparky_address_digest);
Datum
sparky_address_digest(PG_FUNCTION_ARGS)
{
	static SPIPlanPtr plan;
	text	   *address;
	uint8		digest[SPARKY_SHA256_BYTES];
	char		hex[SPARKY_SHA256_HEX + 1];
	OwnerScope	scope;
	bool		known = false;

	if (PG_ARGISNULL(0))
		PG_RETURN_NULL();
	address = PG_GETARG_TEXT_PP(0);
	sparky_owner_enter(&scope);
	sparky_plan(&plan, "SELECT address_key FROM sparky.instance", 0, NULL);
	if (sparky_execute(plan, NULL, NULL, 1) > 0)
	{
		bool		isnull;
		bytea	   *key = DatumGetByteaPP(sparky_column(0, 1, &isnull));

		known = sparky_hmac_sha256(VARDATA_ANY(key), VARSIZE_ANY_EXHDR(key), VARDATA_ANY(address), VARSIZE_ANY_EXHDR(address), digest);
		if (!known)
			ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("could not compute a digest")));
		sparky_hex(digest, sizeof(digest), hex);
	}
	sparky_owner_leave(&scope);
	if (!known)
		PG_RETURN_NULL();
	PG_RETURN_TEXT_P(cstring_to_text(hex));
}
