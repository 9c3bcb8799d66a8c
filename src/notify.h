/* notify.h: what the engine tells users by itself.  SPI connected, owner scope entered; within the commit that it tells of. */
#ifndef SPARKY_NOTIFY_H
#define SPARKY_NOTIFY_H

#include "postgres.h"
#include "datatype/timestamp.h"
#include "utils/uuid.h"

/* A job of his failed (a cancelled one is no news). */
extern void sparky_notify_failed(const pg_uuid_t *user_id, TimestampTz now);
/* After a charge: once per crossing below SPARKY_LOW_CREDITS. */
extern void sparky_notify_low(const pg_uuid_t *user_id, int charged, TimestampTz now);

/* payment_received or payment_refunded: these ask for no preference. */
extern void sparky_notify_payment(const pg_uuid_t *user_id, const char *event, TimestampTz now);

#define SPARKY_LOW_CREDITS 3

#endif
