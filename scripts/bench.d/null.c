/* A server that answers at once and stores nothing: what load generators are measured against.
 *
 *   null PROTOCOL VALUE_BYTES        PROTOCOL is resp or json
 *
 * It listens on 127.0.0.1 at a port of the kernel's choice, prints the port, and serves until it is
 * killed. Every SET succeeds and every GET finds a value. Of RESP it knows arrays of bulk strings
 * without newlines in them, and refuses all but GET and SET; of JSON it expects one document a line
 * that begins with {"type":"SET" or {"type":"GET".
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define CHUNK (256 * 1024)
#define REPLY_MAX 4096
#define EVENTS 256
#define TYPE_AT 9 /* where S or G stands in {"type":"SET" */

typedef struct {
  int fd;
  int column;  /* bytes of the current line seen so far, as far as they matter */
  int line;    /* RESP: lines of this request seen so far */
  int lines;   /* RESP: lines that this request has */
  char verb;
} client;

typedef struct {
  char text[REPLY_MAX];
  size_t size;
} reply;

static reply set_reply, get_reply, bad_reply;
static char *out;
static size_t out_size;

static void answer(char verb) {
  reply *r = verb == 'S' ? &set_reply : verb == 'G' ? &get_reply : &bad_reply;
  memcpy(out + out_size, r->text, r->size);
  out_size += r->size;
}

static void serve_json(client *c, const char *p, const char *end) {
  while (p < end) {
    const char *newline = memchr(p, '\n', end - p);
    long here = (newline ? newline : end) - p;
    if (c->column <= TYPE_AT && c->column + here > TYPE_AT) c->verb = p[TYPE_AT - c->column];
    c->column = c->column + here > TYPE_AT ? TYPE_AT + 1 : c->column + (int)here;
    if (!newline) return;
    answer(c->verb);
    c->column = 0;
    c->verb = 0;
    p = newline + 1;
  }
}

static void serve_resp(client *c, const char *p, const char *end) {
  while (p < end) {
    const char *newline = memchr(p, '\n', end - p);
    const char *stop = newline ? newline : end;
    for (const char *q = p; q < stop && c->column < 2; q++, c->column++) {
      if (c->line == 0 && c->column == 1) c->lines = 1 + 2 * (*q - '0');
      if (c->line == 2 && c->column == 0) c->verb = *q & ~0x20;
    }
    if (!newline) return;
    c->column = 0;
    if (++c->line >= c->lines) {
      answer(c->verb);
      c->line = c->lines = 0;
      c->verb = 0;
    }
    p = newline + 1;
  }
}

static int flush(int fd) {
  const char *p = out;
  while (out_size) {
    ssize_t n = send(fd, p, out_size, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (n < 0) {
      struct pollfd writable = {.fd = fd, .events = POLLOUT};
      if (poll(&writable, 1, 1000) <= 0) return -1;
      continue;
    }
    p += n;
    out_size -= n;
  }
  return 0;
}

static void prepare(int json, int value_bytes) {
  char value[REPLY_MAX / 2];
  memset(value, 'v', sizeof value);
  const char *form = "{\"type\":\"RESPONSE\",\"key\":\"key:00000001\",\"value\":\"%.*s\","
                     "\"timestamp\":\"2026-01-01T00:00:00Z\",\"status\":\"SUCCESS\",\"error\":\"\"}\n";
  if (json) {
    set_reply.size = sprintf(set_reply.text, form, 0, value);
    get_reply.size = sprintf(get_reply.text, form, value_bytes, value);
    bad_reply.size = sprintf(bad_reply.text, "{\"status\":\"ERROR\",\"error\":\"bad request\"}\n");
  } else {
    set_reply.size = sprintf(set_reply.text, "+OK\r\n");
    get_reply.size = sprintf(get_reply.text, "$%d\r\n%.*s\r\n", value_bytes, value_bytes, value);
    bad_reply.size = sprintf(bad_reply.text, "-ERR only GET and SET\r\n");
  }
  out = malloc((size_t)(CHUNK / 8) * sizeof(reply)); /* touched only as far as it is used */
}

int main(int argc, char **argv) {
  int bytes = argc == 3 ? atoi(argv[2]) : -1, one = 1;
  if (bytes < 0 || bytes > REPLY_MAX / 2) return 2;
  int json = !strcmp(argv[1], "json");
  prepare(json, bytes);
  int listener = socket(AF_INET, SOCK_STREAM, 0), epoll = epoll_create1(0);
  struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  socklen_t size = sizeof at;
  if (bind(listener, (struct sockaddr *)&at, sizeof at) || listen(listener, 1024)) return 3;
  getsockname(listener, (struct sockaddr *)&at, &size);
  printf("%d\n", ntohs(at.sin_port));
  fflush(stdout);
  struct epoll_event events[EVENTS], event = {.events = EPOLLIN, .data.ptr = NULL};
  epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &event);
  char *chunk = malloc(CHUNK);
  for (;;) {
    int ready = epoll_wait(epoll, events, EVENTS, -1);
    for (int i = 0; i < ready; i++) {
      client *c = events[i].data.ptr;
      if (!c) {
        c = calloc(1, sizeof *c);
        c->fd = accept(listener, NULL, NULL);
        setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        struct epoll_event add = {.events = EPOLLIN, .data.ptr = c};
        epoll_ctl(epoll, EPOLL_CTL_ADD, c->fd, &add);
        continue;
      }
      ssize_t n = recv(c->fd, chunk, CHUNK, MSG_DONTWAIT);
      if (n > 0) {
        out_size = 0;
        if (json) serve_json(c, chunk, chunk + n);
        else serve_resp(c, chunk, chunk + n);
      }
      if (n <= 0 || flush(c->fd)) {
        close(c->fd);
        free(c);
      }
    }
  }
}
