/* Measures llama.cpp the way `corelm bench` measures corelm: one model, one job, tokens per second as JSON.
 *
 * A job is a prompt of P tokens, or N tokens one by one, with D tokens in the cache before them. Loading, repacking,
 * a first run and the D tokens are not timed; nothing is sampled. The token ids are those of `corelm bench`.
 *
 * With --paced it takes turns with other programs, as `corelm bench --paced` does: it prints `ready`, waits for a line on
 * standard input before each repetition, and prints each rate at once. */

#include "llama.h"
#include "ggml.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

struct job {
    const char * model;
    int n_prompt, n_gen, depth, threads, repetitions;
    bool flash, paced;
};

static void fail(const char * what) {
    fprintf(stderr, "llama-peer: %s\n", what);
    exit(1);
}

/* llama.cpp's own errors are shown, the rest of its log is not. */
static void log_errors(enum ggml_log_level level, const char * text, void * unused) {
    (void) unused;
    if (level == GGML_LOG_LEVEL_ERROR) fputs(text, stderr);
}

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double) t.tv_sec + 1e-9 * (double) t.tv_nsec;
}

static void wait_for_turn(void) {
    int c;
    while ((c = getchar()) != '\n') {
        if (c == EOF) fail("standard input ended before the last repetition");
    }
}

static int number(const char * name, const char * text, int least) {
    char * end;
    long value = text ? strtol(text, &end, 10) : -1;
    if (!text || end == text || *end || value < least || value > 1000000) {
        fprintf(stderr, "llama-peer: %s wants a number, at least %d\n", name, least);
        exit(2);
    }
    return (int) value;
}

static struct job parse(int argc, char ** argv) {
    struct job job = { .threads = 1, .repetitions = 1, .flash = true };
    for (int i = 1; i < argc; i++) {
        const char * name = argv[i];
        if (!strcmp(name, "--no-flash")) { job.flash = false; continue; }
        if (!strcmp(name, "--paced")) { job.paced = true; continue; }
        const char * value = i + 1 < argc ? argv[++i] : NULL;
        if (!strcmp(name, "-m")) job.model = value;
        else if (!strcmp(name, "-p")) job.n_prompt = number(name, value, 0);
        else if (!strcmp(name, "-n")) job.n_gen = number(name, value, 0);
        else if (!strcmp(name, "-d")) job.depth = number(name, value, 0);
        else if (!strcmp(name, "-t")) job.threads = number(name, value, 1);
        else if (!strcmp(name, "-r")) job.repetitions = number(name, value, 1);
        else { fprintf(stderr, "llama-peer: no option '%s'\n", name); exit(2); }
    }
    if (!job.model || (job.n_prompt > 0) == (job.n_gen > 0)) {
        fprintf(stderr, "usage: llama-peer -m FILE (-p N | -n N) [-d N] [-t N] [-r N] [--no-flash] [--paced]\n");
        exit(2);
    }
    return job;
}

static void decode(struct llama_context * ctx, llama_token * tokens, int n) {
    if (llama_decode(ctx, llama_batch_get_one(tokens, n)) != 0) fail("llama_decode failed");
    llama_synchronize(ctx);
}

int main(int argc, char ** argv) {
    struct job job = parse(argc, argv);
    int n = job.n_prompt > 0 ? job.n_prompt : job.n_gen;
    llama_log_set(log_errors, NULL);
    llama_backend_init();

    struct llama_model_params model_params = llama_model_default_params();
    model_params.load_mode = LLAMA_LOAD_MODE_MMAP;
    struct llama_model * model = llama_model_load_from_file(job.model, model_params);
    if (!model) fail("cannot load the model");

    /* Batch sizes and the type of the cache (F16) stay llama.cpp's defaults. */
    struct llama_context_params params = llama_context_default_params();
    params.n_ctx = (uint32_t) (job.depth + n);
    params.n_threads = params.n_threads_batch = job.threads;
    params.flash_attn_type = job.flash ? LLAMA_FLASH_ATTN_TYPE_ENABLED : LLAMA_FLASH_ATTN_TYPE_DISABLED;
    params.no_perf = true;
    struct llama_context * ctx = llama_init_from_model(model, params);
    if (!ctx) fail("cannot make a context");

    int n_vocab = llama_vocab_n_tokens(llama_model_get_vocab(model));
    int most = job.depth > n ? job.depth : n;
    llama_token * tokens = malloc(sizeof(llama_token) * (size_t) most);
    double * rates = malloc(sizeof(double) * (size_t) job.repetitions);
    if (!tokens || !rates) fail("out of memory");
    for (int i = 0; i < most; i++) tokens[i] = (llama_token) ((long) i * 7919 % n_vocab);

    llama_memory_t memory = llama_get_memory(ctx);
    for (int r = 0; r <= job.repetitions; r++) {
        if (job.paced && r > 0) wait_for_turn();
        /* What lies before the timed tokens stays; after the first run they alone are taken back. */
        if (r == 0) {
            llama_memory_clear(memory, true);
            for (int done = 0; done < job.depth; done += 512) {
                decode(ctx, tokens + done, job.depth - done < 512 ? job.depth - done : 512);
            }
        } else if (!llama_memory_seq_rm(memory, 0, job.depth, -1)) {
            fail("cannot take tokens back from the cache");
        }
        double start = now();
        if (job.n_prompt > 0) {
            decode(ctx, tokens, n);
        } else {
            for (int i = 0; i < n; i++) decode(ctx, tokens + i, 1);
        }
        double rate = n / (now() - start);
        if (r > 0) rates[r - 1] = rate;
        if (job.paced) {
            if (r > 0) printf("%.4f\n", rate); else printf("ready\n");
            fflush(stdout);
        }
    }
    printf("{\"version\": \"%s\", \"system\": \"%s\", \"ts\": [", ggml_version(), llama_print_system_info());
    for (int r = 0; r < job.repetitions; r++) printf("%s%.4f", r > 0 ? ", " : "", rates[r]);
    printf("]}\n");
    free(tokens);
    free(rates);
    llama_free(ctx);
    llama_model_free(model);
    llama_backend_free();
    return 0;
}
