/*
 * storage_auth.c: who calls, and the tokens of users and of signed links.
 *
 * The service's key need not be a JWT; such a key is good only when apikey and
 * Authorization carry the same one, as at the platform's gateway.  A user's
 * token is a JWT with HS256 and the secret of the command line.
 */
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "storage.h"

#define LINK_SECRET "emulator-link-secret-nobody-else-knows-it"

static bool refuse(Reply *reply, const char *message);
static void add_base64url(Buf *out, const void *bytes, size_t len);
static void sign(const char *text, size_t len, const char *secret, Buf *out);

bool
storage_authenticate(StorageCall *call, Reply *reply)
{
	const char *authorization = pairs_get(&call->request->headers, "authorization");
	const char *apikey = pairs_get(&call->request->headers, "apikey");
	const char *bearer;
	const char *why = NULL;
	json_t	   *claims;
	const char *role;
	const char *sub;

	if (authorization == NULL)
	{
		storage_error(reply, 400, 400, "InvalidRequest", "Error", "headers must have required property 'authorization'");
		return false;
	}
	if (strncmp(authorization, "Bearer ", 7) != 0)
		return refuse(reply, "Invalid Compact JWS");
	bearer = authorization + 7;
	if (storage_settings.key != NULL ? strcmp(bearer, storage_settings.key) == 0
		: apikey != NULL && strcmp(apikey, bearer) == 0 && strchr(bearer, '.') == NULL)
	{
		if (apikey == NULL || strcmp(apikey, bearer) != 0)
			return refuse(reply, "apikey and Authorization must carry the same key");
		call->caller.service = true;
		return true;
	}
	claims = storage_token_read(bearer, storage_settings.jwt_secret, &why);
	if (claims == NULL)
		return refuse(reply, why);
	role = json_string_value(json_object_get(claims, "role"));
	sub = json_string_value(json_object_get(claims, "sub"));
	call->caller.service = role != NULL && strcmp(role, "service_role") == 0;
	call->caller.role = xstrdup(role != NULL ? role : "anon");
	call->caller.sub = sub != NULL ? xstrdup(sub) : NULL;
	call->caller.claims = json_dumps(claims, JSON_COMPACT);
	json_decref(claims);
	return true;
}

void
storage_caller_free(StorageCaller *caller)
{
	free(caller->role);
	free(caller->sub);
	free(caller->claims);
	memset(caller, 0, sizeof *caller);
}

static bool
refuse(Reply *reply, const char *message)
{
	storage_error(reply, 400, 403, "AccessDenied", "Unauthorized", message);
	return false;
}

const char *
storage_link_secret(void)
{
	return LINK_SECRET;
}

char *
storage_token(json_t *payload, const char *secret)
{
	char	   *text = json_dumps(payload, JSON_COMPACT);
	Buf			token = {0};
	Buf			signature = {0};

	json_decref(payload);
	add_base64url(&token, "{\"alg\":\"HS256\",\"typ\":\"JWT\"}", strlen("{\"alg\":\"HS256\",\"typ\":\"JWT\"}"));
	buf_puts(&token, ".");
	add_base64url(&token, text, strlen(text));
	sign(token.data, token.len, secret, &signature);
	buf_printf(&token, ".%s", signature.data);
	buf_free(&signature);
	free(text);
	return token.data;
}

json_t *
storage_token_read(const char *token, const char *secret, const char **why)
{
	const char *first = strchr(token, '.');
	const char *second = first != NULL ? strchr(first + 1, '.') : NULL;
	Buf			head = {0};
	Buf			body = {0};
	Buf			signature = {0};
	json_t	   *header = NULL;
	json_t	   *payload = NULL;
	const json_t *expires;

	*why = "Invalid Compact JWS";
	if (second == NULL || strchr(second + 1, '.') != NULL || !base64_decode(token, (size_t) (first - token), &head) ||
		!base64_decode(first + 1, (size_t) (second - first - 1), &body))
		goto end;
	header = json_loadb(head.data ? head.data : "", head.len, 0, NULL);
	payload = json_loadb(body.data ? body.data : "", body.len, JSON_REJECT_DUPLICATES, NULL);
	if (!json_is_object(payload) || !json_is_object(header) ||
		strcmp(json_is_string(json_object_get(header, "alg")) ? json_string_value(json_object_get(header, "alg")) : "", "HS256") != 0)
	{
		json_decref(payload);
		payload = NULL;
		goto end;
	}
	sign(token, (size_t) (second - token), secret, &signature);
	expires = json_object_get(payload, "exp");
	if (strlen(second + 1) != signature.len || CRYPTO_memcmp(second + 1, signature.data, signature.len) != 0)
		*why = "signature verification failed";
	else if (expires != NULL && (!json_is_number(expires) || json_number_value(expires) < (double) time(NULL)))
		*why = "\"exp\" claim timestamp check failed";
	else
		*why = NULL;
	if (*why != NULL)
	{
		json_decref(payload);
		payload = NULL;
	}
end:
	json_decref(header);
	buf_free(&head);
	buf_free(&body);
	buf_free(&signature);
	return payload;
}

static void
add_base64url(Buf *out, const void *bytes, size_t len)
{
	size_t		start = out->len;

	buf_base64(out, bytes, len);
	for (size_t i = start; i < out->len; i++)
		out->data[i] = out->data[i] == '+' ? '-' : out->data[i] == '/' ? '_' : out->data[i];
	while (out->len > start && out->data[out->len - 1] == '=')
		out->data[--out->len] = '\0';
}

static void
sign(const char *text, size_t len, const char *secret, Buf *out)
{
	unsigned char digest[EVP_MAX_MD_SIZE];
	unsigned int size = 0;

	if (HMAC(EVP_sha256(), secret, (int) strlen(secret), (const unsigned char *) text, len, digest, &size) == NULL)
		abort();
	add_base64url(out, digest, size);
}
