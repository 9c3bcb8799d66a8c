/*
 * sched.c: the pool that makes replies and the scheduler that lets them wait.
 *
 * A suspended connection is not watched by libmicrohttpd, so the scheduler keeps
 * its socket in an epoll set of its own, only to learn that the client left.
 * The set forgets the socket before the connection is resumed: only then may
 * libmicrohttpd close it.
 *
 * Rules: a call is in exactly one place (pool queue, inbox, heap).  Only the
 * scheduler thread touches the heap.  Nothing touches a call after
 * MHD_resume_connection.  `suspended` counts what is between suspending and
 * that; the server ends only when it is 0.
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "server.h"

#define MAX_THREADS 16
#define NEVER INT64_MAX

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t work_came = PTHREAD_COND_INITIALIZER;
static Call *work_head = NULL;	/* calls for the pool, oldest first */
static Call *work_tail = NULL;
static Call *inbox_head = NULL;	/* calls for the scheduler, oldest first */
static Call *inbox_tail = NULL;
static bool holding = false;
static bool release_asked = false;
static bool stopping = false;
static size_t suspended = 0;

static pthread_t pool[MAX_THREADS];
static int	pool_size = 0;
static pthread_t scheduler;
static int	epoll_fd = -1;
static int	wake_fd = -1;

static Call **heap = NULL;		/* by due, soonest first */
static size_t heap_size = 0;
static size_t heap_room = 0;

static void *pool_main(void *unused);
static void *scheduler_main(void *unused);
static void wake_scheduler(void);
static void append(Call **head, Call **tail, Call *call);
static int	next_timeout(void);
static void take_inbox(void);
static void release_held(void);
static void wake_due(void);
static void wake(Call *call);
static bool work_again(Call *call);
static int64_t rank(const Call *call);
static void heap_push(Call *call);
static void heap_remove(Call *call);
static void heap_sift(size_t at);
static void heap_put(size_t at, Call *call);

void
sched_start(int threads)
{
	struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL};

	epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (epoll_fd < 0 || wake_fd < 0 ||
		epoll_ctl(epoll_fd, EPOLL_CTL_ADD, wake_fd, &event) != 0 ||
		pthread_create(&scheduler, NULL, scheduler_main, NULL) != 0)
		abort();
	for (pool_size = 0; pool_size < threads && pool_size < MAX_THREADS; pool_size++)
		if (pthread_create(&pool[pool_size], NULL, pool_main, NULL) != 0)
			abort();
}

/*
 * Suspending and handing over are one step: a call between the two would be
 * lost when the server ends.  came is told, where somebody waits for it.
 */
static bool
hand_over(Call *call, Call **head, Call **tail, pthread_cond_t *came)
{
	bool		taken;

	pthread_mutex_lock(&lock);
	taken = !stopping;
	if (taken)
	{
		suspended++;
		MHD_suspend_connection(call->connection);
		append(head, tail, call);
		if (came != NULL)
			pthread_cond_signal(came);
	}
	pthread_mutex_unlock(&lock);
	return taken;
}

bool
sched_work(Call *call)
{
	return hand_over(call, &work_head, &work_tail, &work_came);
}

bool
sched_wait(Call *call)
{
	bool		taken = hand_over(call, &inbox_head, &inbox_tail, NULL);

	if (taken)
		wake_scheduler();
	return taken;
}

void
sched_hold(bool hold)
{
	pthread_mutex_lock(&lock);
	holding = hold;
	if (!hold)
		release_asked = true;
	pthread_mutex_unlock(&lock);
	wake_scheduler();
}

bool
sched_holds(void)
{
	bool		holds;

	pthread_mutex_lock(&lock);
	holds = holding;
	pthread_mutex_unlock(&lock);
	return holds;
}

void
sched_stop(void)
{
	pthread_mutex_lock(&lock);
	stopping = true;
	pthread_cond_broadcast(&work_came);
	pthread_mutex_unlock(&lock);
	wake_scheduler();
	while (pool_size > 0)
		pthread_join(pool[--pool_size], NULL);
	wake_scheduler();
	pthread_join(scheduler, NULL);
	free(heap);
	close(epoll_fd);
	close(wake_fd);
}

static void *
pool_main(void *unused)
{
	(void) unused;
	for (;;)
	{
		Call	   *call;
		bool		answer;

		pthread_mutex_lock(&lock);
		while (work_head == NULL && !stopping)
			pthread_cond_wait(&work_came, &lock);
		call = work_head;
		if (call != NULL)
		{
			work_head = call->next;
			if (work_head == NULL)
				work_tail = NULL;
		}
		answer = !stopping;
		pthread_mutex_unlock(&lock);

		if (call == NULL)
			return NULL;
		server_work(call, answer);
		pthread_mutex_lock(&lock);
		append(&inbox_head, &inbox_tail, call);
		pthread_mutex_unlock(&lock);
		wake_scheduler();
	}
}

static void *
scheduler_main(void *unused)
{
	bool		done = false;

	(void) unused;
	while (!done)
	{
		struct epoll_event events[64];
		int			count = epoll_wait(epoll_fd, events, 64, next_timeout());

		for (int i = 0; i < count; i++)
		{
			Call	   *call = events[i].data.ptr;
			uint64_t	ignored;

			if (call != NULL)
			{
				call->gone = true;
				heap_remove(call);
				wake(call);
			}
			else if (read(wake_fd, &ignored, sizeof ignored) < 0)
				continue;
		}
		take_inbox();
		wake_due();

		pthread_mutex_lock(&lock);
		done = stopping && suspended == 0;
		pthread_mutex_unlock(&lock);
	}
	return NULL;
}

static void
wake_scheduler(void)
{
	uint64_t	one = 1;

	/* A full counter wakes it as well. */
	if (write(wake_fd, &one, sizeof one) != sizeof one)
		return;
}

static void
append(Call **head, Call **tail, Call *call)
{
	call->next = NULL;
	if (*tail != NULL)
		(*tail)->next = call;
	else
		*head = call;
	*tail = call;
}

/* Milliseconds until the soonest call is due, rounded up; -1: nothing waits. */
static int
next_timeout(void)
{
	int64_t		left;

	if (heap_size == 0 || rank(heap[0]) == NEVER)
		return -1;
	left = rank(heap[0]) - clock_us();
	if (left <= 0)
		return 0;
	left = (left + 999) / 1000;
	return left > 60000 ? 60000 : (int) left;
}

static void
take_inbox(void)
{
	Call	   *call;
	bool		hold;
	bool		release;
	bool		stop;

	pthread_mutex_lock(&lock);
	call = inbox_head;
	inbox_head = inbox_tail = NULL;
	hold = holding;
	release = release_asked;
	release_asked = false;
	stop = stopping;
	pthread_mutex_unlock(&lock);

	if (release)
		release_held();
	while (call != NULL)
	{
		Call	   *next = call->next;
		struct epoll_event event = {.events = EPOLLRDHUP, .data.ptr = call};

		/* A call on its way out (a trickle) is not held up any more. */
		call->held = hold && call->state == CALL_WORKING;
		if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, call->fd, &event) != 0)
			call->gone = true;
		if (call->reply.delivery == DELIVER_SILENCE)
			call->due = NEVER;
		heap_push(call);
		call = next;
	}
	while (stop && heap_size > 0)
	{
		call = heap[0];
		call->gone = true;
		heap_remove(call);
		wake(call);
	}
}

static void
release_held(void)
{
	for (size_t i = 0; i < heap_size; i++)
		heap[i]->held = false;
	for (size_t i = heap_size; i-- > 0;)
		heap_sift(i);
}

static void
wake_due(void)
{
	int64_t		now = clock_us();

	while (heap_size > 0 && rank(heap[0]) <= now)
	{
		Call	   *call = heap[0];

		heap_remove(call);
		wake(call);
	}
}

static void
wake(Call *call)
{
	struct MHD_Connection *connection = call->connection;

	epoll_ctl(epoll_fd, EPOLL_CTL_DEL, call->fd, NULL);
	if (call->prepared != NULL && work_again(call))
		return;
	if (call->state == CALL_WORKING)
		call->state = CALL_READY;
	MHD_resume_connection(connection);
	pthread_mutex_lock(&lock);
	suspended--;
	pthread_mutex_unlock(&lock);
}

/* A prepared call goes back to the pool, also when its client has left: the service has the whole request. */
static bool
work_again(Call *call)
{
	bool		taken;

	pthread_mutex_lock(&lock);
	taken = !stopping;
	if (taken)
	{
		append(&work_head, &work_tail, call);
		pthread_cond_signal(&work_came);
	}
	pthread_mutex_unlock(&lock);
	return taken;
}

/* When the call may go on. */
static int64_t
rank(const Call *call)
{
	if (call->gone)
		return 0;
	return call->held ? NEVER : call->due;
}

static void
heap_push(Call *call)
{
	if (heap_size == heap_room)
	{
		heap_room = heap_room ? heap_room * 2 : 256;
		heap = realloc(heap, heap_room * sizeof *heap);
		if (heap == NULL)
			abort();
	}
	heap_put(heap_size++, call);
	for (size_t at = heap_size - 1; at > 0 && rank(heap[at]) < rank(heap[(at - 1) / 2]); at = (at - 1) / 2)
	{
		Call	   *above = heap[(at - 1) / 2];

		heap_put((at - 1) / 2, heap[at]);
		heap_put(at, above);
	}
}

static void
heap_remove(Call *call)
{
	size_t		at;

	if (call->heap_index == 0)
		return;
	at = call->heap_index - 1;
	call->heap_index = 0;
	heap_size--;
	if (at == heap_size)
		return;
	heap_put(at, heap[heap_size]);
	heap_sift(at);
	while (at > 0 && rank(heap[at]) < rank(heap[(at - 1) / 2]))
	{
		Call	   *above = heap[(at - 1) / 2];

		heap_put((at - 1) / 2, heap[at]);
		heap_put(at, above);
		at = (at - 1) / 2;
	}
}

static void
heap_sift(size_t at)
{
	for (;;)
	{
		size_t		least = at;
		Call	   *moved;

		for (size_t child = 2 * at + 1; child <= 2 * at + 2 && child < heap_size; child++)
			if (rank(heap[child]) < rank(heap[least]))
				least = child;
		if (least == at)
			return;
		moved = heap[at];
		heap_put(at, heap[least]);
		heap_put(least, moved);
		at = least;
	}
}

static void
heap_put(size_t at, Call *call)
{
	heap[at] = call;
	call->heap_index = at + 1;
}
