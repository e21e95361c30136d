/* A load generator: closed loop, many connections, a fixed depth; one thread, epoll. It costs a few microseconds for each
 * request, so that what is measured is the server.
 *
 *     load PORTS CONNECTIONS DEPTH REQUESTS LINES MARK TEMPLATE...
 *
 * The connections take the PORTS of 127.0.0.1 (with commas between them) in turn. Each sends DEPTH requests at once, and
 * the next DEPTH when all of them are answered. With several TEMPLATEs, those are made of the first, then of the second,
 * and so on, with the same numbers: {n} in a template is a number that no other request has. \\n and \\r are escapes. A
 * reply has so many LINES, and is an error if MARK is in it. Prints JSON; latencies are from sending DEPTH requests to the
 * last of their replies.
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
#include <time.h>
#include <unistd.h>

enum { READ_BYTES = 1 << 20, TEMPLATES_MAX = 8, SECONDS_MAX = 300 };

struct connection {
    int socket, missing, turn;
    long windows;
    double sent;
    char *out;
    size_t unsent, sent_bytes;
};

static char *templates[TEMPLATES_MAX];
static int template_count, depth, lines_per_reply;
static const char *mark;
static size_t mark_length;
static long next_number, errors, measured;
static float *latencies;
static size_t window_bytes_max;
static char number_prefix[32];

static void fail(const char *what) {
    fprintf(stderr, "load: %s: %s\n", what, strerror(errno));
    exit(1);
}

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

/* Replace the escapes of a template in place. */
static char *unescaped(char *text) {
    char *to = text;
    for (char *from = text; *from; from++) {
        if (from[0] == '\\' && (from[1] == 'n' || from[1] == 'r'))
            *to++ = *++from == 'n' ? '\n' : '\r';
        else
            *to++ = *from;
    }
    *to = 0;
    return text;
}

static char *put_request(char *to, const char *from, long number) {
    while (*from) {
        if (from[0] == '{' && from[1] == 'n' && from[2] == '}') {
            to += sprintf(to, "%s%010ld", number_prefix, number);
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

static void send_window(struct connection *c, long *numbers) {
    char *to = c->out;
    /* With several templates each of the DEPTH requests goes through them with a number of its own. */
    for (int i = 0; i < depth; i++) {
        if (c->turn == 0)
            numbers[i] = next_number++;
        to = put_request(to, templates[c->turn], numbers[i]);
    }
    c->turn = (c->turn + 1) % template_count;
    c->unsent = to - c->out;
    c->sent_bytes = 0;
    c->missing = depth * lines_per_reply;
    c->sent = now();
    flush_out(c);
}

static int by_size(const void *a, const void *b) {
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

int main(int argc, char **argv) {
    if (argc < 8) {
        fprintf(stderr, "usage: load PORTS CONNECTIONS DEPTH REQUESTS LINES MARK TEMPLATE...\n");
        return 2;
    }
    int ports[64], port_count = 0;
    for (char *port = strtok(argv[1], ","); port && port_count < 64; port = strtok(NULL, ","))
        ports[port_count++] = atoi(port);
    int connection_count = atoi(argv[2]);
    depth = atoi(argv[3]);
    long requests = atol(argv[4]);
    lines_per_reply = atoi(argv[5]);
    mark = argv[6];
    mark_length = strlen(mark);
    size_t longest = 0;
    for (int i = 7; i < argc && template_count < TEMPLATES_MAX; i++) {
        templates[template_count++] = unescaped(argv[i]);
        if (strlen(argv[i]) > longest)
            longest = strlen(argv[i]);
    }
    window_bytes_max = (longest + 64) * depth;
    sprintf(number_prefix, "%lx-%x-", (long)time(NULL), getpid());

    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);

    long windows = requests / ((long)connection_count * depth);
    if (windows < 1)
        windows = 1;
    latencies = malloc(sizeof *latencies * windows * connection_count);
    struct connection *connections = calloc(connection_count, sizeof *connections);
    long *numbers = calloc((size_t)connection_count * depth, sizeof *numbers);
    char *buffer = malloc(READ_BYTES + 1);
    int poll = epoll_create1(0);
    for (int i = 0; i < connection_count; i++) {
        struct connection *c = &connections[i];
        struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(ports[i % port_count])};
        to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        int one = 1;
        c->socket = socket(AF_INET, SOCK_STREAM, 0);
        if (c->socket < 0 || connect(c->socket, (struct sockaddr *)&to, sizeof to) < 0)
            fail("connect");
        setsockopt(c->socket, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        c->out = malloc(window_bytes_max);
        c->windows = windows;
        if (fcntl(c->socket, F_SETFL, O_NONBLOCK) < 0)
            fail("nonblock");
        struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLET, .data.u32 = i};
        epoll_ctl(poll, EPOLL_CTL_ADD, c->socket, &event);
    }
    double began = now();
    for (int i = 0; i < connection_count; i++)
        send_window(&connections[i], numbers + (size_t)i * depth);
    int busy = connection_count;
    struct epoll_event events[256];
    while (busy) {
        int n = epoll_wait(poll, events, 256, 1000);
        if (n < 0 && errno != EINTR)
            fail("epoll_wait");
        if (now() - began > SECONDS_MAX) {
            errno = ETIMEDOUT;
            fail("replies");
        }
        for (int e = 0; e < n; e++) {
            int i = events[e].data.u32;
            struct connection *c = &connections[i];
            flush_out(c);
            for (;;) {
                ssize_t got = read(c->socket, buffer, READ_BYTES);
                if (got < 0 && errno == EAGAIN)
                    break;
                if (got <= 0) {
                    if (!got)
                        errno = ECONNRESET;
                    fail("read");
                }
                buffer[got] = 0;
                for (char *at = buffer, *end = buffer + got; (at = memchr(at, '\n', end - at)); at++)
                    c->missing--;
                for (char *at = buffer; mark_length && (at = memmem(at, buffer + got - at, mark, mark_length)); at++)
                    errors++;
                if (c->missing == 0) {
                    latencies[measured++] = (now() - c->sent) * 1e3;
                    if (--c->windows)
                        send_window(c, numbers + (size_t)i * depth);
                    else {
                        c->missing = -1;
                        busy--;
                        break;
                    }
                }
            }
        }
    }
    double seconds = now() - began;
    qsort(latencies, measured, sizeof *latencies, by_size);
    printf("{\"requests_per_second\":%.1f,\"p50_ms\":%.4f,\"p99_ms\":%.4f,\"errors\":%ld}\n",
           measured * depth / seconds, latencies[measured / 2], latencies[measured * 99 / 100], errors);
    return 0;
}
