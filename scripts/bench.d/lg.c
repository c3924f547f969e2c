/* A neutral closed-loop client: the same code measures every server of scripts/bench.
 *
 *   lg PROTOCOL OPERATION SECONDS CONNECTIONS PIPELINE KEYS VALUE_BYTES HOST:PORT...
 *
 * PROTOCOL   resp | json (one document a line)
 * OPERATION  set | get | setlinear | getlinear (JSON: in the linear namespace)
 *            | setwait (each SET followed by WAIT 1) | setbatchwait (one WAIT per batch)
 *
 * Each connection sends a batch of PIPELINE operations, waits for all replies, sends the next;
 * connections are spread over the addresses. A latency is that of a batch. Replies are counted, not
 * decoded: RESP ones by their first bytes (errors, misses and WAITs that nobody acknowledged are
 * counted), JSON ones by newlines; of JSON the first reply of every chunk must be a success.
 * Values hold no newline. Prints one JSON line; exit 2: bad arguments, 3: a server failed us.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define CHUNK (256 * 1024)
#define EVENTS 256
#define STALL_MS 5000
#define ADDRESSES_MAX 64
#define SUCCESS "\"status\":\"SUCCESS\""

enum operation { SET, GET, SETLINEAR, GETLINEAR, SETWAIT, SETBATCHWAIT };

typedef struct {
  int fd;
  int waiting;     /* replies that the batch still lacks */
  size_t next;     /* which batch of the pool comes next */
  int64_t sent_ns;
  int head_length; /* bytes of the current reply line seen so far, up to 2 */
  char head[2];
  int body;        /* the current line is the body of a bulk string */
} connection;

static char **batches;
static size_t *batch_bytes;
static size_t batch_count;
static int replies_per_batch;
static int64_t errors;
static uint32_t *latencies_ns;
static size_t latency_count, latency_room;

static void fail(const char *what) {
  fprintf(stderr, "lg: %s%s%s\n", what, errno ? ": " : "", errno ? strerror(errno) : "");
  exit(3);
}

static int64_t now_ns(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static uint32_t draw(void) { /* xorshift32: the order of the keys, the same in every run */
  static uint32_t x = 2463534242u;
  x ^= x << 13;
  x ^= x >> 17;
  x ^= x << 5;
  return x;
}

static int add_operation(char *to, int json, enum operation op, int key, const char *value) {
  const char *ns = op == SETLINEAR || op == GETLINEAR ? ",\"ns\":\"linear\"" : "";
  if (json && (op == GET || op == GETLINEAR))
    return sprintf(to, "{\"type\":\"GET\",\"key\":\"key:%08d\"%s}\n", key, ns);
  if (json)
    return sprintf(to, "{\"type\":\"SET\",\"key\":\"key:%08d\",\"value\":\"%s\"%s}\n", key, value, ns);
  if (op == GET) return sprintf(to, "*2\r\n$3\r\nGET\r\n$12\r\nkey:%08d\r\n", key);
  return sprintf(to, "*3\r\n$3\r\nSET\r\n$12\r\nkey:%08d\r\n$%zu\r\n", key, strlen(value)) +
         sprintf(strchr(to, 0), "%s\r\n", value);
}

/* Encode every key once, in a random order, as batches. */
static void prepare(int json, enum operation op, int pipeline, int keys, int value_bytes) {
  const char *wait = "*3\r\n$4\r\nWAIT\r\n$1\r\n1\r\n$4\r\n1000\r\n";
  char *value = malloc(value_bytes + 1);
  memset(value, 'v', value_bytes);
  value[value_bytes] = 0;
  int *order = malloc(sizeof(int) * keys);
  for (int i = 0; i < keys; i++) order[i] = i;
  for (int i = keys - 1; i > 0; i--) {
    int j = draw() % (i + 1), swap = order[i];
    order[i] = order[j];
    order[j] = swap;
  }
  batch_count = keys / pipeline > 0 ? keys / pipeline : 1;
  batches = malloc(sizeof(char *) * batch_count);
  batch_bytes = malloc(sizeof(size_t) * batch_count);
  size_t room = (size_t)(pipeline + 1) * (value_bytes + 160);
  for (size_t b = 0; b < batch_count; b++) {
    char *p = batches[b] = malloc(room);
    for (int i = 0; i < pipeline; i++) {
      p += add_operation(p, json, op, order[(b * pipeline + i) % keys], value);
      if (op == SETWAIT) p += sprintf(p, "%s", wait);
    }
    if (op == SETBATCHWAIT) p += sprintf(p, "%s", wait);
    batch_bytes[b] = p - batches[b];
  }
  replies_per_batch = op == SETWAIT ? 2 * pipeline : op == SETBATCHWAIT ? pipeline + 1 : pipeline;
}

static void send_batch(connection *c) {
  const char *p = batches[c->next];
  size_t left = batch_bytes[c->next];
  c->next = c->next + 1 < batch_count ? c->next + 1 : 0;
  c->waiting = replies_per_batch;
  c->sent_ns = now_ns();
  while (left) {
    ssize_t n = send(c->fd, p, left, MSG_NOSIGNAL);
    if (n < 0 && errno == EAGAIN) {
      struct pollfd writable = {.fd = c->fd, .events = POLLOUT};
      if (poll(&writable, 1, STALL_MS) == 0) fail("a server does not read");
      continue;
    }
    if (n < 0) fail("send");
    p += n;
    left -= n;
  }
}

/* Count the replies that end in this chunk. A bulk string is two lines, all else is one. */
static int scan_resp(connection *c, const char *p, size_t size) {
  const char *end = p + size;
  int replies = 0;
  while (p < end) {
    const char *from = p;
    while (c->head_length < 2 && from < end) c->head[c->head_length++] = *from++;
    const char *newline = memchr(p, '\n', end - p);
    if (!newline) break;
    p = newline + 1;
    c->head_length = 0;
    if (c->body) {
      c->body = 0;
    } else if (c->head[0] == '$' && c->head[1] != '-') {
      c->body = 1;
      continue;
    } else if (c->head[0] == '-' || c->head[0] == '$' || (c->head[0] == ':' && c->head[1] == '0')) {
      errors++;
    }
    replies++;
  }
  return replies;
}

static int scan_json(connection *c, const char *p, size_t size) {
  const char *end = p + size, *newline = memchr(p, '\n', size);
  int replies = 0, whole = c->head_length == 0;
  if (newline && whole && !memmem(p, newline - p, SUCCESS, sizeof SUCCESS - 1)) errors++;
  while (newline) {
    replies++;
    p = newline + 1;
    newline = memchr(p, '\n', end - p);
  }
  c->head_length = p < end; /* the next chunk begins inside a reply */
  return replies;
}

static void record(int64_t ns) {
  if (latency_count == latency_room) {
    latency_room = latency_room ? latency_room * 2 : 1 << 16;
    latencies_ns = realloc(latencies_ns, latency_room * sizeof *latencies_ns);
    if (!latencies_ns) fail("out of memory");
  }
  latencies_ns[latency_count++] = ns > UINT32_MAX ? UINT32_MAX : (uint32_t)ns;
}

static int ascending(const void *a, const void *b) {
  uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
  return (x > y) - (x < y);
}

static double percentile_us(double q) {
  return latency_count ? latencies_ns[(size_t)(q * (latency_count - 1))] / 1e3 : 0;
}

static int dial(const char *address) {
  char host[64];
  const char *colon = strrchr(address, ':');
  if (!colon || (size_t)(colon - address) >= sizeof host) fail("an address is HOST:PORT");
  memcpy(host, address, colon - address);
  host[colon - address] = 0;
  struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(atoi(colon + 1))};
  if (inet_pton(AF_INET, host, &to.sin_addr) != 1) fail("an address has a numeric IPv4 host");
  int fd = socket(AF_INET, SOCK_STREAM, 0), one = 1;
  if (fd < 0 || connect(fd, (struct sockaddr *)&to, sizeof to) < 0) fail("connect");
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
  return fd;
}

static double cpu_s(void) {
  struct rusage u;
  getrusage(RUSAGE_SELF, &u);
  return u.ru_utime.tv_sec + u.ru_stime.tv_sec + (u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6;
}

int main(int argc, char **argv) {
  const char *names[] = {"set", "get", "setlinear", "getlinear", "setwait", "setbatchwait"};
  const int named = sizeof names / sizeof *names;
  if (argc < 9) {
    fprintf(stderr, "lg PROTOCOL OPERATION SECONDS CONNECTIONS PIPELINE KEYS VALUE_BYTES ADDRESS..\n");
    return 2;
  }
  int json = !strcmp(argv[1], "json"), op = -1;
  for (int i = 0; i < named; i++)
    if (!strcmp(argv[2], names[i])) op = i;
  double seconds = atof(argv[3]);
  int count = atoi(argv[4]), pipeline = atoi(argv[5]), keys = atoi(argv[6]), bytes = atoi(argv[7]);
  if (op < 0 || (json && op > GETLINEAR) || (!json && (op == SETLINEAR || op == GETLINEAR)) || seconds <= 0 || count < 1 || pipeline < 1 || keys < 1)
    return 2;
  prepare(json, op, pipeline, keys, bytes);

  int epoll = epoll_create1(0), open = count;
  connection *all = calloc(count, sizeof *all);
  for (int i = 0; i < count; i++) {
    all[i].fd = dial(argv[8 + i % (argc - 8)]);
    all[i].next = draw() % batch_count;
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = &all[i]};
    epoll_ctl(epoll, EPOLL_CTL_ADD, all[i].fd, &event);
  }
  char *chunk = malloc(CHUNK);
  struct epoll_event events[EVENTS];
  int64_t done = 0, begin = now_ns(), deadline = begin + (int64_t)(seconds * 1e9), now = begin;
  double cpu = cpu_s();
  for (int i = 0; i < count; i++) send_batch(&all[i]);
  while (open) {
    int ready = epoll_wait(epoll, events, EVENTS, STALL_MS);
    errno = ready < 0 ? errno : 0;
    if (ready < 0 && errno == EINTR) continue;
    if (ready <= 0) fail("a server does not answer");
    for (int i = 0; i < ready; i++) {
      connection *c = events[i].data.ptr;
      ssize_t n = recv(c->fd, chunk, CHUNK, MSG_DONTWAIT);
      if (n < 0 && errno == EAGAIN) continue;
      if (n <= 0) fail("a server closed a connection");
      c->waiting -= json ? scan_json(c, chunk, n) : scan_resp(c, chunk, n);
      if (c->waiting > 0) continue;
      if (c->waiting < 0) fail("a server sent more replies than it was asked for");
      now = now_ns();
      record(now - c->sent_ns);
      done += pipeline;
      if (now < deadline) send_batch(c);
      else open--;
    }
  }
  cpu = cpu_s() - cpu;
  qsort(latencies_ns, latency_count, sizeof *latencies_ns, ascending);
  printf("{\"ops\":%lld,\"seconds\":%.6f,\"errors\":%lld,\"p50_us\":%.2f,\"p99_us\":%.2f,"
         "\"cpu_s\":%.6f}\n",
         (long long)done, (now - begin) / 1e9, (long long)errors, percentile_us(0.5),
         percentile_us(0.99), cpu);
  return 0;
}
