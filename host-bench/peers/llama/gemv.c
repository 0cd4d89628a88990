/* Times ggml's product of one row of activations with a square matrix, as `host-bench/examples/gemv.rs` times corelm's:
 * on one thread, the same bytes, products per second as JSON.
 *
 * A product quantizes the activations anew wherever ggml does that for a matrix of this type. There are two ways:
 *
 * - a graph (--graph) whose only node is computed NODES times in one call, with a plan and a thread pool made beforehand,
 *   so that next to nothing of the time is the graph's;
 * - ggml's own routines for rows, without a graph around them.
 *
 * With --repack the matrix goes where llama.cpp would put a model's: into the first buffer type that supports the
 * operation. Without it, it stays in the file's order.
 *
 * The JSON has the results too, which whoever started this checks. */

#include "ggml.h"
#include "ggml-alloc.h"
#include "ggml-backend.h"
#include "ggml-cpu.h"
#include "llama.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum {
    /* Computations of the node in one call. */
    NODES = 64,
    /* Timed spans, of which the median counts. */
    SPANS = 101,
};
/* The least seconds that a span takes: so few that most spans are over before the system gives the CPU to another. */
static const double SPAN = 0.0005;

struct job {
    const char * weights, * activations, * type;
    int n;
    bool graph, repack;
};

/* The operands, and what either way needs. */
struct product {
    struct ggml_tensor * w, * x, * y;
    struct ggml_cgraph * graph;
    struct ggml_cplan plan;
    /* Activations as `w` wants them. */
    void * quantized;
    enum ggml_type quantized_type;
    ggml_from_float_t quantize;
    ggml_vec_dot_t dot;
    bool is_packed;
};

static void fail(const char * what) {
    fprintf(stderr, "ggml-gemv: %s\n", what);
    exit(1);
}

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double) t.tv_sec + 1e-9 * (double) t.tv_nsec;
}

static struct job parse(int argc, char ** argv) {
    struct job job = { 0 };
    for (int i = 1; i < argc; i++) {
        const char * name = argv[i];
        if (!strcmp(name, "--graph")) { job.graph = true; continue; }
        if (!strcmp(name, "--repack")) { job.repack = true; continue; }
        const char * value = i + 1 < argc ? argv[++i] : "";
        if (!strcmp(name, "--weights")) job.weights = value;
        else if (!strcmp(name, "--activations")) job.activations = value;
        else if (!strcmp(name, "--type")) job.type = value;
        else if (!strcmp(name, "-n")) job.n = atoi(value);
        else { fprintf(stderr, "ggml-gemv: no option '%s'\n", name); exit(2); }
    }
    if (!job.weights || !job.activations || !job.type || job.n < 1) {
        fprintf(stderr, "usage: ggml-gemv --weights FILE --activations FILE --type TYPE -n N [--graph] [--repack]\n");
        exit(2);
    }
    return job;
}

/* The type that ggml calls `name`. */
static enum ggml_type type_named(const char * name) {
    for (int type = 0; type < GGML_TYPE_COUNT; type++) {
        const char * other = ggml_type_name((enum ggml_type) type);
        if (other && !strcmp(other, name)) return (enum ggml_type) type;
    }
    fail("ggml has no such type");
    return GGML_TYPE_COUNT;
}

/* Exactly `size` bytes of a file. */
static void * read_file(const char * path, size_t size) {
    FILE * file = fopen(path, "rb");
    void * bytes = malloc(size);
    if (!file || !bytes || fread(bytes, 1, size, file) != size || fgetc(file) != EOF) fail("an input is missing or has another size");
    fclose(file);
    return bytes;
}

static struct ggml_context * context(size_t n_tensors, size_t extra) {
    struct ggml_init_params params = { .mem_size = n_tensors * ggml_tensor_overhead() + extra, .no_alloc = true };
    struct ggml_context * ctx = ggml_init(params);
    if (!ctx) fail("out of memory");
    return ctx;
}

/* Whether a matrix like `w` in a buffer of type `buft` can be multiplied there. */
static bool supports(ggml_backend_dev_t device, ggml_backend_buffer_type_t buft, const struct ggml_tensor * w) {
    struct ggml_context * ctx = context(4, 0);
    struct ggml_tensor * like = ggml_dup_tensor(ctx, w);
    struct ggml_tensor * x = ggml_new_tensor_2d(ctx, GGML_TYPE_F32, w->ne[0], 512);
    like->buffer = ggml_backend_buft_alloc_buffer(buft, 0);
    bool is_supported = like->buffer && ggml_backend_dev_supports_op(device, ggml_mul_mat(ctx, like, x));
    ggml_backend_buffer_free(like->buffer);
    ggml_free(ctx);
    return is_supported;
}

/* Where llama.cpp puts a matrix like `w` on a machine without other devices: into the first of the CPU's extra buffer types
 * that can do the product (AMX, repacked), else into plain memory. */
static ggml_backend_buffer_type_t llama_choice(const struct ggml_tensor * w) {
    ggml_backend_dev_t cpu = ggml_backend_dev_by_type(GGML_BACKEND_DEVICE_TYPE_CPU);
    ggml_backend_reg_t reg = ggml_backend_dev_backend_reg(cpu);
    ggml_backend_dev_get_extra_bufts_t extra_bufts =
        (ggml_backend_dev_get_extra_bufts_t) ggml_backend_reg_get_proc_address(reg, "ggml_backend_dev_get_extra_bufts");
    ggml_backend_buffer_type_t * buft = extra_bufts ? extra_bufts(cpu) : NULL;
    for (; buft && *buft; buft++) {
        if (supports(cpu, *buft, w)) return *buft;
    }
    return ggml_backend_cpu_buffer_type();
}

/* Reads the operands, and plans the graph. */
static struct product load(const struct job * job) {
    struct product p = { 0 };
    enum ggml_type type = type_named(job->type);
    struct ggml_context * ctx = context(1, 0);
    p.w = ggml_new_tensor_2d(ctx, type, job->n, job->n);
    ggml_backend_buffer_type_t plain = ggml_backend_cpu_buffer_type();
    ggml_backend_buffer_type_t buft = job->repack ? llama_choice(p.w) : plain;
    if (!ggml_backend_alloc_ctx_tensors_from_buft(ctx, buft)) fail("no memory for the matrix");
    ggml_backend_tensor_set(p.w, read_file(job->weights, ggml_nbytes(p.w)), 0, ggml_nbytes(p.w));
    p.is_packed = buft != plain;

    ctx = context(3, ggml_graph_overhead_custom(NODES, false));
    p.x = ggml_new_tensor_1d(ctx, GGML_TYPE_F32, job->n);
    p.y = ggml_mul_mat(ctx, p.w, p.x);
    p.graph = ggml_new_graph_custom(ctx, NODES, false);
    ggml_build_forward_expand(p.graph, p.y);
    while (ggml_graph_n_nodes(p.graph) < NODES) ggml_graph_add_node(p.graph, p.y);
    if (!ggml_backend_alloc_ctx_tensors_from_buft(ctx, plain)) fail("no memory for the activations");
    ggml_backend_tensor_set(p.x, read_file(job->activations, ggml_nbytes(p.x)), 0, ggml_nbytes(p.x));

    struct ggml_threadpool_params params = ggml_threadpool_params_default(1);
    struct ggml_threadpool * pool = ggml_threadpool_new(&params);
    if (!pool) fail("no thread pool");
    p.plan = ggml_graph_plan(p.graph, 1, pool);
    p.plan.work_data = aligned_alloc(64, GGML_PAD(p.plan.work_size + 1, 64));

    const struct ggml_type_traits_cpu * traits = ggml_get_type_traits_cpu(type);
    p.dot = traits->vec_dot;
    p.quantized_type = traits->vec_dot_type;
    p.quantize = ggml_get_type_traits_cpu(p.quantized_type)->from_float;
    p.quantized = aligned_alloc(64, GGML_PAD(ggml_row_size(p.quantized_type, job->n), 64));
    if (!p.plan.work_data || !p.quantized) fail("out of memory");
    return p;
}

static void compute_graph(struct product * p) {
    if (ggml_graph_compute(p->graph, &p->plan) != GGML_STATUS_SUCCESS) fail("ggml_graph_compute failed");
}

/* The activations as the matrix wants them. */
static const void * activations(struct product * p) {
    if (p->quantized_type == GGML_TYPE_F32) return p->x->data;
    p->quantize(p->x->data, p->quantized, p->x->ne[0]);
    return p->quantized;
}

static void compute_rows(struct product * p) {
    const void * x = activations(p);
    const char * row = p->w->data;
    float * y = p->y->data;
    for (int64_t i = 0; i < p->w->ne[1]; i++, row += p->w->nb[1]) p->dot((int) p->w->ne[0], y + i, 0, row, 0, x, 0, 1);
}

#ifdef __x86_64__
/* What a repacked Q4_0 matrix is multiplied by on x86; no header for users has it. */
void ggml_gemv_q4_0_8x8_q8_0(int n, float * s, size_t bs, const void * vx, const void * vy, int nr, int nc);

static void compute_packed_rows(struct product * p) {
    const void * x = activations(p);
    int n = (int) p->w->ne[0], n_rows = (int) p->w->ne[1];
    ggml_gemv_q4_0_8x8_q8_0(n, p->y->data, (size_t) n_rows, p->w->data, x, 1, n_rows);
}
#endif

typedef void (*compute_t)(struct product *);

/* The way that was asked for. */
static compute_t way(const struct job * job, const struct product * p) {
    if (job->graph) return compute_graph;
    if (!p->is_packed) return compute_rows;
#ifdef __x86_64__
    const char * buffer = ggml_backend_buffer_name(p->w->buffer);
    if (p->w->type == GGML_TYPE_Q4_0 && !strcmp(buffer, "CPU_REPACK")) return compute_packed_rows;
#endif
    fail("no routine by itself for this order of the matrix");
    return NULL;
}

/* No number, until it is written. */
static void clear(struct ggml_tensor * y) {
    memset(y->data, 0xff, ggml_nbytes(y));
}

static int by_size(const void * a, const void * b) {
    double x = *(const double *) a, y = *(const double *) b;
    return (x > y) - (x < y);
}

static double span(compute_t compute, struct product * p, long calls) {
    double start = now();
    for (long i = 0; i < calls; i++) compute(p);
    return now() - start;
}

int main(int argc, char ** argv) {
    struct job job = parse(argc, argv);
    ggml_cpu_init();
    struct product p = load(&job);
    compute_t compute = way(&job, &p);

    long calls = 1;
    while (span(compute, &p, calls) < SPAN) calls *= 2;
    /* What is looked at is what timed products give. */
    clear(p.y);
    double spans[SPANS];
    for (int i = 0; i < SPANS; i++) spans[i] = span(compute, &p, calls);
    qsort(spans, SPANS, sizeof *spans, by_size);
    double per_s = (double) (calls * (job.graph ? NODES : 1)) / spans[SPANS / 2];

    const float * y = p.y->data;
    printf("{\"version\": \"%s\", \"system\": \"%s\", \"buffer\": \"%s\", \"per_s\": %.4f, \"y\": [", ggml_version(),
        llama_print_system_info(), ggml_backend_buffer_name(p.w->buffer), per_s);
    for (int i = 0; i < job.n; i++) printf("%s%.9g", i > 0 ? ", " : "", y[i]);
    printf("]}\n");
    return 0;
}
