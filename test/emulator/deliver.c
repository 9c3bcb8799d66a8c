/*
 * deliver.c: how the bytes of a reply leave, whole or broken on purpose.
 *
 * Runs in the thread of libmicrohttpd and never blocks in it, but for RAW.
 * A reset is made by disconnecting the socket (connect to AF_UNSPEC): that sends
 * RST at once, where closing with SO_LINGER 0 would come after the FIN that
 * libmicrohttpd sends first.
 */
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>

#include <gnutls/gnutls.h>

#include "server.h"

/* So long the bytes before a reset have to reach the client. */
#define RESET_PAUSE_US 30000
#define RAW_PATIENCE_MS 2000
#define BLOCK_BYTES (64 * 1024)

static struct MHD_Response *make_response(Call *call);
static ssize_t read_chunk(void *cls, uint64_t pos, char *out, size_t max);
static ssize_t read_trickle(Call *call, uint64_t pos, char *out, size_t max);
static ssize_t read_until_reset(Call *call, uint64_t pos, char *out, size_t max);
static uint64_t copy_filled(const Reply *reply, uint64_t pos, char *out, size_t max);
static bool pause_until(Call *call, int64_t due);
static void reset_socket(int fd);
static void send_raw(Call *call);

enum MHD_Result
deliver(Call *call)
{
	Reply	   *reply = &call->reply;
	struct MHD_Response *response;
	enum MHD_Result result;

	if (call->gone)
		return MHD_NO;
	call->state = CALL_DELIVERING;
	switch (reply->delivery)
	{
		case DELIVER_RESET_BEFORE:
			reset_socket(call->fd);
			return MHD_NO;
		case DELIVER_CLOSE:
		case DELIVER_SILENCE:
			return MHD_NO;
		case DELIVER_RAW:
			send_raw(call);
			return MHD_NO;
		default:
			break;
	}
	response = make_response(call);
	if (response == NULL)
		return MHD_NO;
	for (size_t i = 0; i < reply->headers.count; i++)
		MHD_add_response_header(response, reply->headers.items[i].name, reply->headers.items[i].value);
	result = MHD_queue_response(call->connection, (unsigned) reply->status, response);
	MHD_destroy_response(response);
	return result;
}

enum MHD_Result
deliver_simple(struct MHD_Connection *connection, int status, const char *type, const Buf *body)
{
	struct MHD_Response *response =
		MHD_create_response_from_buffer(body->len, body->data ? body->data : "", MHD_RESPMEM_MUST_COPY);
	enum MHD_Result result;

	if (response == NULL)
		return MHD_NO;
	MHD_add_response_header(response, "Content-Type", type);
	result = MHD_queue_response(connection, (unsigned) status, response);
	MHD_destroy_response(response);
	return result;
}

static struct MHD_Response *
make_response(Call *call)
{
	Reply	   *reply = &call->reply;

	if (reply->delivery == DELIVER_LENGTH)
		return MHD_create_response_from_buffer(reply->body.len, reply->body.data ? reply->body.data : "",
											   MHD_RESPMEM_PERSISTENT);
	if (reply->delivery == DELIVER_SHORT)
		return MHD_create_response_from_callback(reply->body.len, BLOCK_BYTES, read_chunk, call, NULL);
	return MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, BLOCK_BYTES, read_chunk, call, NULL);
}

/* 0 means: suspended, ask again when resumed. */
static ssize_t
read_chunk(void *cls, uint64_t pos, char *out, size_t max)
{
	Call	   *call = cls;
	Reply	   *reply = &call->reply;
	uint64_t	end = reply->body.len;
	uint64_t	count;

	if (call->gone)
		return MHD_CONTENT_READER_END_WITH_ERROR;
	if (reply->delivery == DELIVER_TRICKLE)
		return read_trickle(call, pos, out, max);
	if (reply->delivery == DELIVER_RESET_INSIDE)
		return read_until_reset(call, pos, out, max);
	if (reply->delivery == DELIVER_FILLED)
	{
		count = copy_filled(reply, pos, out, max);
		return count > 0 ? (ssize_t) count : MHD_CONTENT_READER_END_OF_STREAM;
	}
	if (reply->delivery == DELIVER_SHORT && reply->cut_at < end)
		end = reply->cut_at;
	if (pos >= end)
		return reply->delivery == DELIVER_SHORT ? MHD_CONTENT_READER_END_WITH_ERROR : MHD_CONTENT_READER_END_OF_STREAM;
	count = end - pos < max ? end - pos : max;
	memcpy(out, reply->body.data + pos, count);
	return (ssize_t) count;
}

static ssize_t
read_trickle(Call *call, uint64_t pos, char *out, size_t max)
{
	Reply	   *reply = &call->reply;
	uint64_t	count = reply->tick_bytes;
	int64_t		now = clock_us();

	if (pos >= reply->body.len)
		return MHD_CONTENT_READER_END_OF_STREAM;
	if (now < call->next_tick)
		return pause_until(call, call->next_tick) ? 0 : MHD_CONTENT_READER_END_WITH_ERROR;
	call->next_tick = now + (int64_t) reply->tick_ms * 1000;
	if (count > reply->body.len - pos)
		count = reply->body.len - pos;
	if (count > max)
		count = max;
	memcpy(out, reply->body.data + pos, count);
	return (ssize_t) count;
}

static ssize_t
read_until_reset(Call *call, uint64_t pos, char *out, size_t max)
{
	Reply	   *reply = &call->reply;
	uint64_t	end = reply->cut_at < reply->body.len ? reply->cut_at : reply->body.len;
	uint64_t	count;

	if (pos < end)
	{
		count = end - pos < max ? end - pos : max;
		memcpy(out, reply->body.data + pos, count);
		return (ssize_t) count;
	}
	if (!call->reset_due)
	{
		call->reset_due = true;
		return pause_until(call, clock_us() + RESET_PAUSE_US) ? 0 : MHD_CONTENT_READER_END_WITH_ERROR;
	}
	reset_socket(call->fd);
	return MHD_CONTENT_READER_END_WITH_ERROR;
}

static uint64_t
copy_filled(const Reply *reply, uint64_t pos, char *out, size_t max)
{
	uint64_t	count = 0;
	uint64_t	tail_at = reply->body.len + reply->filler;
	uint64_t	end = tail_at + strlen(reply->tail);

	while (count < max && pos < end)
	{
		if (pos < reply->body.len)
			out[count++] = reply->body.data[pos++];
		else if (pos < tail_at)
		{
			uint64_t	run = tail_at - pos < max - count ? tail_at - pos : max - count;

			memset(out + count, 'A', run);
			count += run;
			pos += run;
		}
		else
			out[count++] = reply->tail[pos++ - tail_at];
	}
	return count;
}

static bool
pause_until(Call *call, int64_t due)
{
	call->due = due;
	return sched_wait(call);
}

static void
reset_socket(int fd)
{
	struct sockaddr nowhere = {.sa_family = AF_UNSPEC};

	connect(fd, &nowhere, sizeof nowhere);
}

/* Bytes that libmicrohttpd would never send. The client's own caps end this soon. */
static void
send_raw(Call *call)
{
	const union MHD_ConnectionInfo *info = MHD_get_connection_info(call->connection, MHD_CONNECTION_INFO_GNUTLS_SESSION);
	gnutls_session_t session = info != NULL ? info->tls_session : NULL;
	const char *at = call->reply.body.data;
	size_t		left = call->reply.body.len;

	while (left > 0)
	{
		struct pollfd wait = {.fd = call->fd, .events = POLLOUT};
		ssize_t		sent = session != NULL ? gnutls_record_send(session, at, left < 16384 ? left : 16384)
			: send(call->fd, at, left, MSG_NOSIGNAL | MSG_DONTWAIT);

		if (sent > 0)
		{
			at += sent;
			left -= (size_t) sent;
		}
		else if (session != NULL ? (sent != GNUTLS_E_AGAIN && sent != GNUTLS_E_INTERRUPTED)
				 : (errno != EAGAIN && errno != EINTR))
			return;
		else if (poll(&wait, 1, RAW_PATIENCE_MS) <= 0)
			return;
	}
}
