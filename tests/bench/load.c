/* A load generator: closed loop, many connections, a fixed depth; one thread, epoll. It costs a few microseconds for each
 * request, so that what is measured is the server.
 *
 *     load PORTS CONNECTIONS DEPTH SECONDS PAUSE_MS EVENTS INTERVAL FIRST EXPECTED TEMPLATE...
 *
 * The connections take the PORTS of 127.0.0.1 (with commas between them) in turn; one that begins with / is the path of
 * a unix socket. Each sends FIRST, unless it is empty, and reads a line that must be a welcome. Then it sends DEPTH requests at once, and
 * when all of them are answered waits for PAUSE_MS (which stops all connections: it is meant for one) and sends the next
 * DEPTH, for so many SECONDS. With several TEMPLATEs those are made of the first, then of the second, and so on, with the
 * same numbers. In a template, {n} is 26 characters that no other request has, and {e} six digits, a random number from 1
 * to EVENTS. Each reply is a line that begins with EXPECTED; the first that does not ends it all.
 *
 * Prints JSON: how often a second all TEMPLATEs were answered, percentiles of the milliseconds from sending the first of
 * them to the last reply of the last, and how often it was done.
 *
 * If INTERVAL is not 0, a line comes before that every so many seconds: {"type":"interval"}, with the number of replies in
 * it; and one whenever no reply at all came for STALL_MS: {"type":"stall"}. Their times are those of CLOCK_MONOTONIC.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

enum { READ_BYTES = 1 << 20, PORTS_MAX = 64, SILENT_MS_MAX = 30000, NUMBER_BYTES = 26, SHOWN_BYTES = 300, STALL_MS = 20 };

static const char WELCOME[] = "{\"reply\":\"welcome\"";

struct connection {
    int socket, missing, turn;
    size_t column; /* how much of a reply has come */
    double sent;
    long *numbers;
    char *out;
    size_t unsent, sent_bytes;
};

static char **templates;
static int template_count, depth;
static const char *expected;
static size_t expected_bytes;
static long next_number, events;
static char number_prefix[32];
static long replies; /* in this interval */

static void fail(const char *what) {
    fprintf(stderr, "load: %s: %s\n", what, strerror(errno));
    exit(1);
}

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

static void *room(void *old, size_t bytes) {
    void *new = realloc(old, bytes);
    if (!new)
        fail("memory");
    return new;
}

static char *put_request(char *to, const char *from, long number) {
    while (*from) {
        if (!strncmp(from, "{n}", 3)) {
            to += sprintf(to, "%s%010ld", number_prefix, number);
            from += 3;
        } else if (!strncmp(from, "{e}", 3)) {
            to += sprintf(to, "%06ld", 1 + random() % events);
            from += 3;
        } else
            *to++ = *from++;
    }
    return to;
}

static void flush_out(struct connection *c) {
    while (c->unsent) {
        ssize_t n = write(c->socket, c->out + c->sent_bytes, c->unsent);
        if (n < 0) {
            if (errno == EAGAIN)
                return; /* EPOLLOUT comes */
            fail("write");
        }
        c->sent_bytes += n;
        c->unsent -= n;
    }
}

static void send_window(struct connection *c) {
    char *to = c->out;
    for (int i = 0; i < depth; i++) {
        if (c->turn == 0)
            c->numbers[i] = next_number++;
        to = put_request(to, templates[c->turn], c->numbers[i]);
    }
    if (c->turn == 0)
        c->sent = now();
    c->turn = (c->turn + 1) % template_count;
    c->unsent = to - c->out;
    c->sent_bytes = 0;
    c->missing = depth;
    flush_out(c);
}

static void take_replies(struct connection *c, const char *at, const char *end) {
    while (at < end) {
        const char *newline = memchr(at, '\n', end - at);
        size_t length = (newline ? newline : end) - at;
        size_t known = c->column < expected_bytes ? expected_bytes - c->column : 0;
        if (memcmp(at, expected + expected_bytes - known, length < known ? length : known) || (newline && length < known)) {
            int shown = length < SHOWN_BYTES ? length : SHOWN_BYTES;
            fprintf(stderr, "load: a reply is not like %s: %.*s%.*s\n", expected, (int)(expected_bytes - known), expected,
                    shown, at);
            exit(1);
        }
        c->column += length;
        if (!newline)
            return;
        c->column = 0;
        c->missing--;
        replies++;
        at = newline + 1;
    }
}

static int by_size(const void *a, const void *b) {
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

static int opened(const char *port) {
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(atoi(port))};
    struct sockaddr_un path = {.sun_family = AF_UNIX};
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    strncpy(path.sun_path, port, sizeof path.sun_path - 1);
    int one = 1, is_path = *port == '/', opened = socket(is_path ? AF_UNIX : AF_INET, SOCK_STREAM, 0);
    if (opened < 0 || connect(opened, is_path ? (struct sockaddr *)&path : (struct sockaddr *)&to,
                              is_path ? sizeof path : sizeof to) < 0)
        fail("connect");
    if (!is_path)
        setsockopt(opened, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    return opened;
}

static void say_first(int to, const char *first) {
    char reply[SHOWN_BYTES] = "";
    size_t length = 0;
    if (write(to, first, strlen(first)) < 0)
        fail("write");
    while (length < sizeof reply - 1 && !strchr(reply, '\n')) {
        ssize_t got = read(to, reply + length, sizeof reply - 1 - length);
        if (got <= 0)
            fail("the welcome");
        length += got;
    }
    if (strncmp(reply, WELCOME, strlen(WELCOME))) {
        fprintf(stderr, "load: no welcome: %s\n", reply);
        exit(1);
    }
}

int main(int argc, char **argv) {
    if (argc < 11) {
        fprintf(stderr, "usage: load PORTS CONNECTIONS DEPTH SECONDS PAUSE_MS EVENTS INTERVAL FIRST EXPECTED TEMPLATE...\n");
        return 2;
    }
    char *ports[PORTS_MAX];
    int port_count = 0;
    for (char *port = strtok(argv[1], ","); port && port_count < PORTS_MAX; port = strtok(NULL, ","))
        ports[port_count++] = port;
    int connection_count = atoi(argv[2]);
    depth = atoi(argv[3]);
    double seconds = atof(argv[4]);
    useconds_t pause = atof(argv[5]) * 1e3;
    events = atol(argv[6]);
    double interval = atof(argv[7]);
    const char *first = argv[8];
    expected = argv[9];
    expected_bytes = strlen(expected);
    templates = argv + 10;
    template_count = argc - 10;
    size_t longest = 0;
    for (int i = 0; i < template_count; i++)
        if (strlen(templates[i]) > longest)
            longest = strlen(templates[i]);
    sprintf(number_prefix, "%08lx-%06x-", (long)time(NULL), getpid() & 0xffffff);
    srandom(getpid());

    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);

    struct connection *connections = calloc(connection_count, sizeof *connections);
    char *buffer = room(NULL, READ_BYTES);
    int poll = epoll_create1(0);
    for (int i = 0; i < connection_count; i++) {
        struct connection *c = &connections[i];
        c->socket = opened(ports[i % port_count]);
        if (*first)
            say_first(c->socket, first);
        /* Of {n} and {e}, three characters become 26 or six; the end of sprintf is one more. */
        c->out = room(NULL, longest * NUMBER_BYTES / 3 * depth + 1);
        c->numbers = room(NULL, sizeof *c->numbers * depth);
        if (fcntl(c->socket, F_SETFL, O_NONBLOCK) < 0)
            fail("nonblock");
        struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLET, .data.ptr = c};
        epoll_ctl(poll, EPOLL_CTL_ADD, c->socket, &event);
    }

    float *latencies = NULL;
    size_t measured = 0, measurable = 0;
    double began = now(), ended = began, interval_began = began, interval_end = began + interval, last_reply = began;
    setvbuf(stdout, NULL, _IOLBF, 0);
    for (int i = 0; i < connection_count; i++)
        send_window(&connections[i]);
    int busy = connection_count;
    struct epoll_event ready[256];
    while (busy) {
        int n = epoll_wait(poll, ready, 256, SILENT_MS_MAX);
        if (n == 0)
            errno = ETIMEDOUT;
        if (n <= 0 && errno != EINTR)
            fail("replies");
        double woken = interval ? now() : 0;
        long replies_before = replies;
        for (int e = 0; e < n; e++) {
            struct connection *c = ready[e].data.ptr;
            flush_out(c);
            for (;;) {
                ssize_t got = read(c->socket, buffer, READ_BYTES);
                if (got < 0 && errno == EAGAIN)
                    break;
                if (got == 0)
                    errno = ECONNRESET;
                if (got <= 0)
                    fail("read");
                take_replies(c, buffer, buffer + got);
                if (c->missing > 0)
                    continue;
                if (c->turn == 0) {
                    if (measured == measurable) {
                        measurable = measurable ? measurable * 2 : 1 << 16;
                        latencies = room(latencies, measurable * sizeof *latencies);
                    }
                    ended = now();
                    latencies[measured++] = (ended - c->sent) * 1e3;
                    if (ended - began > seconds) {
                        busy--;
                        break;
                    }
                    if (pause)
                        usleep(pause);
                }
                send_window(c);
            }
        }
        if (interval && replies > replies_before) {
            /* What this program itself computes, or waits for the processor, is none of it. */
            if (woken - last_reply > STALL_MS / 1e3)
                printf("{\"type\":\"stall\",\"began\":%.6f,\"ended\":%.6f}\n", last_reply, woken);
            last_reply = now();
            if (last_reply >= interval_end) {
                printf("{\"type\":\"interval\",\"began\":%.6f,\"ended\":%.6f,\"replies\":%ld}\n", interval_began,
                       last_reply, replies);
                interval_began = last_reply;
                replies = 0;
                while (interval_end <= last_reply)
                    interval_end += interval;
            }
        }
    }
    qsort(latencies, measured, sizeof *latencies, by_size);
    printf("{\"value\":%.1f,\"p50_ms\":%.4f,\"p99_ms\":%.4f,\"done\":%zu}\n", measured * depth / (ended - began),
           latencies[measured / 2], latencies[measured * 99 / 100], measured * depth);
    return 0;
}
