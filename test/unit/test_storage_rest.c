/*
 * test_storage_rest.c: the requests of the Storage API, and what its answers
 * mean, from their bytes: each code, cut at every byte, damaged at random.
 */
#include "storage_rest.h"
#include "tap.h"

#define BASE "http://kong:8000/storage/v1"
#define PUBLIC "https://app.example.com/storage/v1"
#define SECRET "sb_secret_0123456789"
#define PATH "generations/8d5e/one.png"

static StorageMessage
of(StorageOperation operation)
{
	static const char *const keys[] = {"8d5e/one.png"};
	StorageMessage message = {0};
	StorageOutcome made = STORAGE_INVALID;

	switch (operation)
	{
		case STORAGE_DOWNLOAD: made = sparky_storage_rest_download(BASE, PATH, &message, NULL, 0); break;
		case STORAGE_UPLOAD: made = sparky_storage_rest_upload(BASE, PATH, "image/png", 10, true, &message, NULL, 0); break;
		case STORAGE_INFO: made = sparky_storage_rest_info(BASE, PATH, &message, NULL, 0); break;
		case STORAGE_SIGN: made = sparky_storage_rest_sign(BASE, PATH, 60, &message, NULL, 0); break;
		case STORAGE_DELETE: made = sparky_storage_rest_delete(BASE, "generations", keys, 1, &message, NULL, 0); break;
		case STORAGE_LIST: made = sparky_storage_rest_list(BASE, "generations", "8d5e", 100, 0, &message, NULL, 0); break;
	}
	if (made != STORAGE_OK)
		abort();
	return message;
}

/* The answer to a call; its body is given in memory of just its length. */
static StorageAnswer
answer_to(StorageOperation operation, TransportResult transport, int status, const char *type, const char *body, size_t length)
{
	StorageMessage message = of(operation);
	StorageAnswer answer;
	char	   *exact = length > 0 ? malloc(length) : NULL;

	if (length > 0)
		memcpy(exact, body, length);
	sparky_storage_rest_read(&message, transport, status, type, exact, length, SECRET, PUBLIC, &answer);
	free(exact);
	sparky_storage_rest_message_free(&message);
	return answer;
}

static void
means(StorageOperation operation, int status, const char *body, StorageOutcome expected, const char *name)
{
	StorageAnswer answer = answer_to(operation, TRANSPORT_DONE, status, "application/json; charset=utf-8", body, strlen(body));

	if (!ok(answer.outcome == expected, "%s: %s", sparky_storage_rest_name(expected), name))
		printf("# got: %s\n", sparky_storage_rest_name(answer.outcome));
	sparky_storage_rest_answer_free(&answer);
}

/* ---- requests ---- */

static void
sends(StorageOutcome made, StorageMessage *message, const char *method, const char *url, const char *body, const char *name)
{
	if (!ok(made == STORAGE_OK, "%s", name))
		return;
	is_text(message->method, method, "  method");
	is_text(message->url, url, "  URL");
	is_text(message->body, body, "  body");
	if (body != NULL)
		is_number(message->content_length, strlen(body), "  length");
	ok(message->has_body == (body != NULL || message->operation == STORAGE_UPLOAD), "  has a body");
	sparky_storage_rest_message_free(message);
	ok(message->url == NULL && message->headers[0] == NULL, "  freed");
}

static void
test_requests(void)
{
	const char *keys[] = {"8d5e/one.png", "8d5e/a'b (2).png"};
	StorageMessage m;

	sends(sparky_storage_rest_download(BASE, PATH, &m, NULL, 0), &m, "GET", BASE "/object/authenticated/" PATH, NULL, "download");
	sends(sparky_storage_rest_download(BASE "///", PATH, &m, NULL, 0), &m, "GET", BASE "/object/authenticated/" PATH, NULL, "no double slashes");
	sends(sparky_storage_rest_info(BASE, PATH, &m, NULL, 0), &m, "GET", BASE "/object/info/authenticated/" PATH, NULL, "info");
	sends(sparky_storage_rest_sign(BASE, PATH, 3600, &m, NULL, 0), &m, "POST", BASE "/object/sign/" PATH, "{\"expiresIn\":3600}", "sign");
	sends(sparky_storage_rest_delete(BASE, "generations", keys, 2, &m, NULL, 0), &m, "DELETE", BASE "/object/generations",
		  "{\"prefixes\":[\"8d5e/one.png\",\"8d5e/a'b (2).png\"]}", "delete");
	sends(sparky_storage_rest_list(BASE, "generations", "8d5e/", 100, 200, &m, NULL, 0), &m, "POST", BASE "/object/list/generations",
		  "{\"prefix\":\"8d5e\",\"limit\":100,\"offset\":200,\"sortBy\":{\"column\":\"name\",\"order\":\"asc\"}}", "list");
	sends(sparky_storage_rest_list(BASE, "generations", "", 1, 0, &m, NULL, 0), &m, "POST", BASE "/object/list/generations",
		  "{\"prefix\":\"\",\"limit\":1,\"offset\":0,\"sortBy\":{\"column\":\"name\",\"order\":\"asc\"}}", "list of the root");

	ok(sparky_storage_rest_upload(BASE, PATH, "image/png", 12345, true, &m, NULL, 0) == STORAGE_OK, "upload");
	is_text(m.headers[0], "Content-Type: image/png", "  the media type alone");
	is_text(m.headers[1], "cache-control: max-age=3600", "  cache-control");
	is_text(m.headers[2], "x-upsert: true", "  overwrites");
	ok(m.headers[3] == NULL && m.body == NULL && m.has_body && m.content_length == 12345, "  the caller streams the file");
	sends(STORAGE_OK, &m, "POST", BASE "/object/" PATH, NULL, "  where to");
	ok(sparky_storage_rest_upload(BASE, PATH, "image/png", 0, false, &m, NULL, 0) == STORAGE_OK, "upload of nothing");
	is_text(m.headers[2], "x-upsert: false", "  does not overwrite");
	sparky_storage_rest_message_free(&m);
}

static void
test_encoding(void)
{
	static const struct { const char *path, *encoded; } rows[] = {
		{"user_uploads/u/my photo.png", "user_uploads/u/my%20photo.png"},
		{"user_uploads/u/a+b.png", "user_uploads/u/a%2Bb.png"},
		{"user_uploads/u/a?b&c=d.png", "user_uploads/u/a%3Fb%26c%3Dd.png"},
		{"user_uploads/u/!-.*'()_&$@=;:+,.png", "user_uploads/u/%21-.%2A%27%28%29_%26%24%40%3D%3B%3A%2B%2C.png"},
		{"user_uploads/u/...", "user_uploads/u/..."},
		{"user_uploads/u/.hidden/..a", "user_uploads/u/.hidden/..a"},
	};
	static const char *const refused[] = {
		"", "/", "user_uploads", "user_uploads/", "/u/a.png", "user_uploads//a.png", "user_uploads/u//a.png", "user_uploads/u/",
		"user_uploads/../generations/x.png", "user_uploads/u/..", "user_uploads/.", "user_uploads/./x", "user_uploads/u/a#b.png",
		"user_uploads/u/a%2Fb.png", "user_uploads/u/100%.png", "user_uploads/u/~x.png", "user_uploads/u/x^.png", "user_uploads/u/\xC3\xA9.png",
		"user_uploads/u/a\\b.png", "user_uploads/u/a\nb.png", "user_uploads/u/a\tb", "user_uploads/u/[a].png", "user_uploads/u/a\"b.png",
		"user_uploads/u/a|b", "user_uploads/u/a\x7F", "user uploads/u/a.png", "../u/a.png", "b#c/u/a.png", NULL,
	};
	StorageMessage m;
	char		long_path[SPARKY_STORAGE_KEY_BYTES + 20] = "generations/";
	char		url[400];
	char		why[100];

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
	{
		ok(sparky_storage_rest_download(BASE, rows[i].path, &m, NULL, 0) == STORAGE_OK, "key: %s", rows[i].path);
		snprintf(url, sizeof(url), BASE "/object/authenticated/%s", rows[i].encoded);
		is_text(m.url, url, "  its URL");
		sparky_storage_rest_message_free(&m);
	}
	for (size_t i = 0; i == 0 || refused[i - 1] != NULL; i++)
	{
		bool		same = true;

		why[0] = '\0';
		same &= sparky_storage_rest_download(BASE, refused[i], &m, why, sizeof(why)) == STORAGE_BAD_KEY && why[0] != '\0' && m.url == NULL;
		same &= sparky_storage_rest_upload(BASE, refused[i], "image/png", 1, true, &m, NULL, 0) == STORAGE_BAD_KEY && m.url == NULL;
		same &= sparky_storage_rest_sign(BASE, refused[i], 60, &m, NULL, 0) == STORAGE_BAD_KEY && m.url == NULL;
		ok(same, "refused before it is sent: %zu", i);
	}
	memset(long_path + 12, 'k', SPARKY_STORAGE_KEY_BYTES);
	ok(sparky_storage_rest_info(BASE, long_path, &m, NULL, 0) == STORAGE_OK, "the longest key");
	sparky_storage_rest_message_free(&m);
	memset(long_path + 12, 'k', SPARKY_STORAGE_KEY_BYTES + 1);
	ok(sparky_storage_rest_info(BASE, long_path, &m, NULL, 0) == STORAGE_BAD_KEY, "a longer one");
}

static void
test_arguments(void)
{
	static const char *const bases[] = {"", "kong:8000", "ftp://kong/", "http://", "http:///x", "http://k/ x", "http://k/?a", "http://k#a",
		"http://user@k/", "http://k/\r\nX: y", "http://k/%2e", "http://k/../x", NULL};
	static const char *const types[] = {"", "image", "image/png; charset=binary", "image/png\r\nx: y", "image/", "/png", "a/b/c", "IMAGE/PNG", NULL};
	const char *keys[SPARKY_STORAGE_BATCH + 1];
	StorageMessage m;

	for (size_t i = 0; i == 0 || bases[i - 1] != NULL; i++)
		ok(sparky_storage_rest_download(bases[i], PATH, &m, NULL, 0) == STORAGE_BAD_REQUEST, "no address: %zu", i);
	for (size_t i = 0; i == 0 || types[i - 1] != NULL; i++)
		ok(sparky_storage_rest_upload(BASE, PATH, types[i], 1, true, &m, NULL, 0) == STORAGE_BAD_REQUEST && m.url == NULL,
		   "no media type: %zu", i);
	ok(sparky_storage_rest_sign(BASE, PATH, 0, &m, NULL, 0) == STORAGE_BAD_REQUEST, "a link of no time");
	ok(sparky_storage_rest_sign(BASE, PATH, 31536001, &m, NULL, 0) == STORAGE_BAD_REQUEST, "a link for longer than a year");
	ok(sparky_storage_rest_list(BASE, "b", "", 0, 0, &m, NULL, 0) == STORAGE_BAD_REQUEST, "a listing of nothing");
	ok(sparky_storage_rest_list(BASE, "b", "", 1001, 0, &m, NULL, 0) == STORAGE_BAD_REQUEST, "a listing too long");
	ok(sparky_storage_rest_list(BASE, "b", "", 1, -1, &m, NULL, 0) == STORAGE_BAD_REQUEST, "a listing from before the start");
	ok(sparky_storage_rest_list(BASE, "b", "../x", 1, 0, &m, NULL, 0) == STORAGE_BAD_KEY, "a folder that is none");
	ok(sparky_storage_rest_list(BASE, "b/c", "x", 1, 0, &m, NULL, 0) == STORAGE_BAD_KEY, "a bucket that is none");
	for (size_t i = 0; i <= SPARKY_STORAGE_BATCH; i++)
		keys[i] = "u/k";
	ok(sparky_storage_rest_delete(BASE, "b", keys, 0, &m, NULL, 0) == STORAGE_BAD_REQUEST, "a deletion of nothing");
	ok(sparky_storage_rest_delete(BASE, "b", keys, SPARKY_STORAGE_BATCH + 1, &m, NULL, 0) == STORAGE_BAD_REQUEST, "a deletion too long");
	ok(sparky_storage_rest_delete(BASE, "b", keys, SPARKY_STORAGE_BATCH, &m, NULL, 0) == STORAGE_OK, "the longest deletion");
	sparky_storage_rest_message_free(&m);
	keys[1] = "u/#";
	ok(sparky_storage_rest_delete(BASE, "b", keys, 2, &m, NULL, 0) == STORAGE_BAD_KEY && m.url == NULL, "a deletion with a key that is none");
}

/* ---- errors ---- */

typedef struct ErrorRow
{
	int			http;
	const char *status;
	const char *code;
	StorageOutcome outcome;
} ErrorRow;

static void
test_errors(void)
{
	static const ErrorRow rows[] = {
		{400, "404", "NoSuchKey", STORAGE_MISSING},
		{400, "404", "NoSuchBucket", STORAGE_NO_BUCKET},
		{400, "409", "KeyAlreadyExists", STORAGE_EXISTS},
		{400, "400", "InvalidRequest", STORAGE_AUTH},
		{400, "403", "AccessDenied", STORAGE_AUTH},
		{400, "413", "EntityTooLarge", STORAGE_TOO_LARGE},
		{400, "415", "InvalidMimeType", STORAGE_WRONG_TYPE},
		{400, "400", "InvalidKey", STORAGE_BAD_KEY},
		{400, "400", "InvalidJWT", STORAGE_AUTH},
		{400, "400", "InvalidSignature", STORAGE_AUTH},
		{429, "429", "SlowDown", STORAGE_THROTTLED},
		{400, "429", "SlowDown", STORAGE_THROTTLED},
		{400, "503", "DatabaseConnectionLimit", STORAGE_THROTTLED},
		{544, "544", "DatabaseTimeout", STORAGE_SERVER},
		{400, "503", "DatabaseReadOnly", STORAGE_SERVER},
		{400, "423", "ResourceLocked", STORAGE_SERVER},
		{400, "409", "TransactionError", STORAGE_SERVER},
		{500, "500", "DatabaseError", STORAGE_SERVER},
		{400, "400", "MissingContentLength", STORAGE_BAD_REQUEST},
		/* the code decides, whatever the numbers say */
		{500, "500", "NoSuchKey", STORAGE_MISSING},
		{400, "500", "AccessDenied", STORAGE_AUTH},
		/* a word that nobody knows: statusCode, then HTTP */
		{400, "404", "SomethingNew", STORAGE_MISSING},
		{400, "403", "SomethingNew", STORAGE_AUTH},
		{400, "413", "SomethingNew", STORAGE_TOO_LARGE},
		{400, "429", "SomethingNew", STORAGE_THROTTLED},
		{400, "503", "SomethingNew", STORAGE_SERVER},
		{400, "409", "SomethingNew", STORAGE_BAD_REQUEST},
		{400, "418", "SomethingNew", STORAGE_BAD_REQUEST},
		{503, "soon", "SomethingNew", STORAGE_SERVER},
		{401, "", "SomethingNew", STORAGE_AUTH},
		{416, "", "InvalidRange", STORAGE_BAD_REQUEST},
	};
	char		body[400];
	char		name[100];

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
	{
		snprintf(body, sizeof(body), "{\"statusCode\":\"%s\",\"error\":\"e\",\"message\":\"m\",\"code\":\"%s\"}", rows[i].status, rows[i].code);
		snprintf(name, sizeof(name), "%d %s %s", rows[i].http, rows[i].status, rows[i].code);
		means(STORAGE_DOWNLOAD, rows[i].http, body, rows[i].outcome, name);
	}
	means(STORAGE_UPLOAD, 400, "{\"statusCode\":\"409\",\"error\":\"Duplicate\",\"message\":\"The resource already exists\"}", STORAGE_EXISTS, "409 of an older version");
	means(STORAGE_DOWNLOAD, 400, "{\"statusCode\":\"404\",\"error\":\"not_found\",\"message\":\"Object not found\"}", STORAGE_MISSING, "404 of an older version");
	means(STORAGE_DOWNLOAD, 400, "{\"statusCode\":\"404\",\"error\":\"Bucket not found\",\"message\":\"Bucket not found\"}", STORAGE_NO_BUCKET, "its bucket");
	means(STORAGE_DOWNLOAD, 400, "{\"statusCode\":404,\"code\":\"Odd\"}", STORAGE_MISSING, "statusCode as a number");
	means(STORAGE_DOWNLOAD, 400, "{\"statusCode\":\"200\",\"code\":\"Odd\"}", STORAGE_BAD_REQUEST, "statusCode 200 is no success");

	/* A wrong address answers 404 as well, and must not read as "the photo is gone". */
	means(STORAGE_DOWNLOAD, 404, "{\"message\":\"no Route matched with those values\"}", STORAGE_INVALID, "a gateway without the route");
	means(STORAGE_DOWNLOAD, 404, "{\"statusCode\":404,\"error\":\"Not Found\",\"message\":\"Route GET:/x not found\"}", STORAGE_INVALID, "a server without the route");
	means(STORAGE_DELETE, 404, "<html>404</html>", STORAGE_INVALID, "a page");
	means(STORAGE_DOWNLOAD, 400, "", STORAGE_INVALID, "400 without a body");
	means(STORAGE_DOWNLOAD, 400, "[]", STORAGE_INVALID, "400 with an array");
	means(STORAGE_DOWNLOAD, 502, "<html>bad gateway</html>", STORAGE_SERVER, "502 with a page");
	means(STORAGE_DOWNLOAD, 500, "{\"code\":5}", STORAGE_SERVER, "500 with a code that is a number");
	means(STORAGE_DOWNLOAD, 413, "<html>413</html>", STORAGE_TOO_LARGE, "a proxy's own limit");
	means(STORAGE_DOWNLOAD, 400, "{\"code\":\"NoSuchKey\",\"message\":\"\xff\xfe\"}", STORAGE_MISSING, "bad UTF-8 beside the code");
	means(STORAGE_DOWNLOAD, 302, "", STORAGE_REDIRECT, "302");
	means(STORAGE_DOWNLOAD, 304, "", STORAGE_REDIRECT, "304 was never asked for");
	means(STORAGE_DOWNLOAD, 206, "", STORAGE_INVALID, "206 was never asked for");
	means(STORAGE_DELETE, 204, "", STORAGE_INVALID, "204");
	means(STORAGE_DOWNLOAD, 0, "", STORAGE_NETWORK, "no status");
}

static void
test_missing_files(void)
{
	static const char internal[] = "{\"statusCode\":\"500\",\"error\":\"Internal\",\"message\":\"%s\",\"code\":\"InternalError\"}";
	static const struct { const char *message; StorageOutcome outcome; } rows[] = {
		{"ENOENT: no such file or directory, stat '/mnt/x'", STORAGE_FILE_GONE},
		{"Internal server error", STORAGE_FILE_GONE},
		{"", STORAGE_FILE_GONE},
		{"connect ECONNREFUSED 10.0.0.1:5432", STORAGE_SERVER},
		{"Timeout acquiring a connection", STORAGE_SERVER},
		{"socket hang up", STORAGE_SERVER},
		{"EMFILE: too many open files", STORAGE_SERVER},
	};
	char		body[400];

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
	{
		snprintf(body, sizeof(body), internal, rows[i].message);
		means(STORAGE_DOWNLOAD, 500, body, rows[i].outcome, rows[i].message);
	}
	snprintf(body, sizeof(body), internal, "x");
	means(STORAGE_UPLOAD, 500, body, STORAGE_SERVER, "an upload has no file to miss");
	means(STORAGE_DOWNLOAD, 503, body, STORAGE_SERVER, "503 InternalError");
	means(STORAGE_DOWNLOAD, 400, "{\"statusCode\":\"404\",\"message\":\"NoSuchKey\",\"code\":\"S3Error\"}", STORAGE_FILE_GONE, "the S3 store misses the file");
	means(STORAGE_DOWNLOAD, 400, "{\"statusCode\":\"503\",\"message\":\"SlowDown\",\"code\":\"S3Error\"}", STORAGE_THROTTLED, "the S3 store is busy");
	means(STORAGE_DOWNLOAD, 400, "{\"statusCode\":\"403\",\"message\":\"InvalidAccessKeyId\",\"code\":\"S3Error\"}", STORAGE_AUTH, "the S3 store refuses Storage");
	means(STORAGE_UPLOAD, 400, "{\"statusCode\":\"404\",\"message\":\"NoSuchBucket\",\"code\":\"S3Error\"}", STORAGE_SERVER, "the S3 store has no bucket");
}

static void
test_transport(void)
{
	static const struct { TransportResult transport; int status; StorageOutcome outcome; } rows[] = {
		{TRANSPORT_CONNECT_FAILED, 0, STORAGE_CONNECT}, {TRANSPORT_TLS_FAILED, 0, STORAGE_CONNECT}, {TRANSPORT_RESET, 0, STORAGE_NETWORK},
		{TRANSPORT_RESET, 200, STORAGE_NETWORK}, {TRANSPORT_TIMEOUT, 0, STORAGE_TIMEOUT}, {TRANSPORT_TIMEOUT, 200, STORAGE_TIMEOUT},
		{TRANSPORT_STOPPED, 200, STORAGE_CUT}, {TRANSPORT_STOPPED, 502, STORAGE_SERVER}, {TRANSPORT_STOPPED, 429, STORAGE_THROTTLED},
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
	{
		StorageAnswer answer = answer_to(STORAGE_DOWNLOAD, rows[i].transport, rows[i].status, NULL, NULL, 0);

		ok(answer.outcome == rows[i].outcome, "%s: transport %d with status %d", sparky_storage_rest_name(rows[i].outcome), rows[i].transport, rows[i].status);
		sparky_storage_rest_answer_free(&answer);
	}
}

static void
test_messages(void)
{
	static const char body[] = "{\"code\":\"No\\nSuch " SECRET "\",\"message\":\"The key " SECRET " and \\n\\t " SECRET
		" \xC3\xA9\xC3\xA9 aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa " SECRET "\"}";
	StorageAnswer answer = answer_to(STORAGE_DOWNLOAD, TRANSPORT_DONE, 400, NULL, body, strlen(body));
	char		page[5000];

	is_text(answer.code, "No Such ***", "the code is one line without the key");
	is_number(strlen(answer.message), 160, "the message is cut at 160 bytes");
	ok(strncmp(answer.message, "The key *** and *** ? aaa", 25) == 0, "one line of ASCII without the key: %s", answer.message);
	sparky_storage_rest_answer_free(&answer);

	/* No cut may leave half a key. */
	for (size_t i = 100; i < 200; i++)
	{
		size_t		length = (size_t) snprintf(page, sizeof(page), "<p>%0*d " SECRET " x</p>", (int) i, 0);

		answer = answer_to(STORAGE_DOWNLOAD, TRANSPORT_DONE, 502, "text/html", page, length);
		if (strstr(answer.message, "sb_") != NULL || strlen(answer.message) > 160)
			ok(false, "half a key is left: %s", answer.message);
		sparky_storage_rest_answer_free(&answer);
	}
	answer = answer_to(STORAGE_DOWNLOAD, TRANSPORT_DONE, 502, "text/html", "<html>\n<b>502</b>\r\n", 18);
	is_text(answer.message, "<html> <b>502</b>", "a gateway's page is shown");
	sparky_storage_rest_answer_free(&answer);
}

/* ---- good answers ---- */

static void
links(const char *body, const char *expected, const char *name)
{
	StorageAnswer answer = answer_to(STORAGE_SIGN, TRANSPORT_DONE, 200, "application/json", body, strlen(body));

	ok(answer.outcome == (expected != NULL ? STORAGE_OK : STORAGE_INVALID), "%s", name);
	is_text(answer.link, expected, "  the link");
	sparky_storage_rest_answer_free(&answer);
}

static void
test_links(void)
{
	static const char raw[] = "{\"signedURL\":\"/object/sign/user_uploads/u/a b?c+.png?token=t\"}";
	StorageMessage m;
	StorageAnswer answer;

	links("{\"signedURL\":\"/object/sign/" PATH "?token=ab.CD-9.e_f\"}", PUBLIC "/object/sign/" PATH "?token=ab.CD-9.e_f", "a link");
	links("{\"signedURL\":\"/object/sign/generations%2F8d5e%2Fone.png?token=a\"}", PUBLIC "/object/sign/" PATH "?token=a", "an encoded one");
	links("{\"signedURL\":\"https://evil.example/object/sign/" PATH "?token=a\"}", NULL, "absolute");
	links("{\"signedURL\":\"//evil.example/object/sign/" PATH "?token=a\"}", NULL, "of another host");
	links("{\"signedURL\":\"/object/sign/generations/8d5e/two.png?token=a\"}", NULL, "of another object");
	links("{\"signedURL\":\"/object/sign/" PATH "x?token=a\"}", NULL, "of a longer name");
	links("{\"signedURL\":\"/object/sign/generations/8d5e/one?token=a\"}", NULL, "of a shorter name");
	links("{\"signedURL\":\"/object/sign/generations/8d5e/one.pn%\"}", NULL, "cut in an escape");
	links("{\"signedURL\":\"/object/sign/" PATH "%00?token=a\"}", NULL, "with an encoded zero");
	links("{\"signedURL\":\"/object/sign/" PATH "?token=\"}", NULL, "without a token");
	links("{\"signedURL\":\"/object/sign/" PATH "\"}", NULL, "without the parameter");
	links("{\"signedURL\":\"/object/sign/" PATH "?token=a&x=y\"}", NULL, "with more behind the token");
	links("{\"signedURL\":\"/object/sign/" PATH "?token=a b\"}", NULL, "with a space in the token");
	links("{\"signedURL\":\"/object/public/" PATH "?token=a\"}", NULL, "of another call");
	links("{\"signedURL\":null}", NULL, "null");
	links("{}", NULL, "nothing");
	links("[]", NULL, "an array");

	if (sparky_storage_rest_sign(BASE, "user_uploads/u/a b?c+.png", 5, &m, NULL, 0) != STORAGE_OK)
		abort();
	sparky_storage_rest_read(&m, TRANSPORT_DONE, 200, NULL, raw, strlen(raw), NULL, NULL, &answer);
	is_text(answer.link, BASE "/object/sign/user_uploads/u/a%20b%3Fc%2B.png?token=t", "a path that came back unencoded is encoded; the base is the message's");
	sparky_storage_rest_answer_free(&answer);
	sparky_storage_rest_read(&m, TRANSPORT_DONE, 200, NULL, raw, strlen(raw), NULL, "https://x/storage/v1//", &answer);
	is_text(answer.link, "https://x/storage/v1/object/sign/user_uploads/u/a%20b%3Fc%2B.png?token=t", "slashes at the end of the base");
	sparky_storage_rest_answer_free(&answer);
	sparky_storage_rest_message_free(&m);
}

static void
test_good_answers(void)
{
	static const char info[] = "{\"id\":\"0b7f\",\"version\":\"v-2\",\"size\":1234,\"content_type\":\"image/png\",\"etag\":\"\\\"abc\\\"\",\"metadata\":{}}";
	static const char list[] = "[{\"name\":\"a.png\",\"id\":\"0b7f\",\"created_at\":\"2026-11-01T00:00:00Z\",\"metadata\":{\"size\":77}},"
		"{\"name\":\"folder\",\"id\":null,\"metadata\":null}]";
	StorageAnswer answer;

	means(STORAGE_DOWNLOAD, 200, "", STORAGE_OK, "download");
	means(STORAGE_UPLOAD, 200, "{\"Key\":\"" PATH "\",\"Id\":\"0b7f\"}", STORAGE_OK, "upload");
	means(STORAGE_UPLOAD, 200, "{\"Key\":\"generations/other.png\",\"Id\":\"0b7f\"}", STORAGE_INVALID, "upload of something else");
	means(STORAGE_UPLOAD, 200, "<html>", STORAGE_INVALID, "upload answered by a page");
	means(STORAGE_UPLOAD, 200, "", STORAGE_INVALID, "upload answered by nothing");
	means(STORAGE_DELETE, 200, "[]", STORAGE_OK, "deletion of what is gone");
	means(STORAGE_DELETE, 200, "{}", STORAGE_INVALID, "deletion answered by an object");
	means(STORAGE_LIST, 200, "[]", STORAGE_OK, "an empty listing");
	means(STORAGE_LIST, 200, "[{\"id\":\"x\"}]", STORAGE_INVALID, "a listing without names");
	means(STORAGE_LIST, 200, "[7]", STORAGE_INVALID, "a listing of numbers");
	means(STORAGE_INFO, 200, "[]", STORAGE_INVALID, "info that is an array");
	means(STORAGE_INFO, 200, "{}", STORAGE_INVALID, "info that says nothing");
	means(STORAGE_INFO, 200, "{\"error\":\"x\",\"size\":5}", STORAGE_INVALID, "an error under 200");

	answer = answer_to(STORAGE_DELETE, TRANSPORT_DONE, 200, "text/html", "[]", 2);
	ok(answer.outcome == STORAGE_INVALID, "JSON that says it is a page");
	answer = answer_to(STORAGE_UPLOAD, TRANSPORT_DONE, 200, NULL, "{\"Key\":\"" PATH "\",\"Id\":\"0b7f\"}", strlen("{\"Key\":\"" PATH "\",\"Id\":\"0b7f\"}"));
	is_text(answer.object_id, "0b7f", "the object's id");
	answer = answer_to(STORAGE_INFO, TRANSPORT_DONE, 200, NULL, info, strlen(info));
	ok(answer.size == 1234 && strcmp(answer.mime, "image/png") == 0 && strcmp(answer.etag, "abc") == 0 && strcmp(answer.version, "v-2") == 0, "info");
	answer = answer_to(STORAGE_DELETE, TRANSPORT_DONE, 200, NULL, "[{\"name\":\"a\"},{\"name\":\"b\"}] []", 30);
	ok(answer.outcome == STORAGE_INVALID, "more behind the array");
	answer = answer_to(STORAGE_DELETE, TRANSPORT_DONE, 200, NULL, "[{\"name\":\"a\"},{\"name\":\"b\"}]", 27);
	is_number(answer.deleted, 2, "two were there");
	answer = answer_to(STORAGE_LIST, TRANSPORT_DONE, 200, NULL, list, strlen(list));
	ok(answer.count == 2 && strcmp(answer.entries[0].name, "a.png") == 0 && answer.entries[0].size == 77 && answer.entries[1].id == NULL &&
	   answer.entries[1].size == -1, "a listing");
	sparky_storage_rest_answer_free(&answer);
	ok(answer.entries == NULL && answer.count == 0, "freed");
}

/* Cut anywhere, damaged anywhere: no crash, and a cut body is never a success. */
static void
test_damage(void)
{
	static const struct { StorageOperation operation; const char *body; } bodies[] = {
		{STORAGE_UPLOAD, "{\"Key\":\"" PATH "\",\"Id\":\"0b7f\"}"},
		{STORAGE_SIGN, "{\"signedURL\":\"/object/sign/" PATH "?token=ab.cd\"}"},
		{STORAGE_DELETE, "[{\"name\":\"a\"}]"},
		{STORAGE_LIST, "[{\"name\":\"a\",\"id\":\"x\",\"metadata\":{\"size\":1}}]"},
		{STORAGE_INFO, "{\"size\":5,\"etag\":\"x\",\"content_type\":\"image/png\"}"},
		{STORAGE_DOWNLOAD, "{\"statusCode\":\"404\",\"message\":\"Object not found\",\"code\":\"NoSuchKey\"}"},
	};
	size_t		huge_length = 4 * 1024 * 1024;
	char	   *huge = malloc(huge_length);
	StorageAnswer answer;
	bool		sound = true;

	for (size_t i = 0; i < sizeof(bodies) / sizeof(bodies[0]); i++)
	{
		size_t		length = strlen(bodies[i].body);
		int			status = bodies[i].operation == STORAGE_DOWNLOAD ? 400 : 200;

		for (size_t cut = 0; cut < length; cut++)
		{
			answer = answer_to(bodies[i].operation, TRANSPORT_DONE, status, NULL, bodies[i].body, cut);
			sound &= answer.outcome == STORAGE_INVALID && answer.link == NULL && answer.count == 0;
			sparky_storage_rest_answer_free(&answer);
		}
		for (int round = 0; round < 20000; round++)
		{
			char		damaged[200];

			memcpy(damaged, bodies[i].body, length);
			for (int n = 1 + (int) (next_random() % 3); n > 0; n--)
				damaged[next_random() % length] = (char) next_random();
			answer = answer_to(bodies[i].operation, TRANSPORT_DONE, status, NULL, damaged, length);
			sound &= (unsigned) answer.outcome < STORAGE_OUTCOME_COUNT && (answer.link != NULL) == (bodies[i].operation == STORAGE_SIGN && answer.outcome == STORAGE_OK);
			sparky_storage_rest_answer_free(&answer);
		}
	}
	ok(sound, "bodies that were cut or damaged");

	memset(huge, '[', huge_length);
	answer = answer_to(STORAGE_LIST, TRANSPORT_DONE, 200, NULL, huge, huge_length);
	ok(answer.outcome == STORAGE_INVALID, "four megabytes of brackets");
	memcpy(huge, "{\"code\":\"", 9);
	memset(huge + 9, 'x', huge_length - 11);
	memcpy(huge + huge_length - 2, "\"}", 2);
	answer = answer_to(STORAGE_DOWNLOAD, TRANSPORT_DONE, 400, NULL, huge, huge_length);
	ok(answer.outcome == STORAGE_BAD_REQUEST && strlen(answer.code) == sizeof(answer.code) - 1, "a code of four megabytes");
	free(huge);
}

static void
test_rules(void)
{
	bool		sound = true;

	for (int i = 0; i < STORAGE_OUTCOME_COUNT; i++)
	{
		const StorageRule *rule = sparky_storage_rest_rule((StorageOutcome) i);

		sound &= rule->name != NULL && strspn(rule->name, "abcdefghijklmnopqrstuvwxyz_") == strlen(rule->name);
		sound &= (rule->matter == STORAGE_MATTER_NONE) == (i == STORAGE_OK);
		/* Only what passes is worth a repeat, and a file that seems to be gone is looked for once more. */
		sound &= (rule->retry != RETRY_NEVER) == (rule->matter == STORAGE_MATTER_TEMPORARY || i == STORAGE_FILE_GONE);
	}
	ok(sound, "every outcome has a rule");
	is_text(sparky_storage_rest_name((StorageOutcome) 99), "invalid", "a number that is none");
}

int
main(void)
{
	test_requests();
	test_encoding();
	test_arguments();
	test_errors();
	test_missing_files();
	test_transport();
	test_messages();
	test_links();
	test_good_answers();
	test_damage();
	test_rules();
	return done();
}
