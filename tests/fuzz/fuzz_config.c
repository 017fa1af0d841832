// Any text as a configuration file: alone, and behind the keys that have no default, so that the
// fuzzer reaches acceptance. What is accepted must print to a file that reads back to the same;
// what is refused must say why, in order of lines.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "config.h"
#include "fuzz.h"

static void require(int condition) {
    if (!condition) abort();
}

static char *print(const struct config *config, size_t *bytes) {
    char *text = NULL;
    FILE *out = open_memstream(&text, bytes);
    require(out != NULL);
    config_print(config, out);
    fclose(out);
    return text;
}

static void check_accepted(struct config *config) {
    static struct config again;
    static struct config_errors errors;
    const struct node_options *o = &config->node;
    require(o->cluster != 0 && o->id != 0 && o->node_count >= 1 && config->endpoint != 0);
    require(o->heartbeat_ns > 0 && o->heartbeat_ns <= o->election_ns / 3);
    require((o->log_bytes & (o->log_bytes - 1)) == 0 && o->window_entries <= o->log_entries);
    size_t bytes;
    char *text = print(config, &bytes);
    require(config_parse(&again, "again", text, bytes, &errors));
    memset(config->line, 0, sizeof config->line);
    memset(again.line, 0, sizeof again.line);
    require(memcmp(config, &again, sizeof again) == 0);
    free(text);
}

static void check(const char *text, size_t bytes) {
    static struct config config;
    static struct config_errors errors;
    bool good = config_parse(&config, "f", text, bytes, &errors);
    require(good == (errors.count == 0));
    for (uint32_t i = 0; i < errors.count && i < CONFIG_ERRORS_MAX; i++) {
        require(strncmp(errors.list[i].text, "f:", 2) == 0 && strlen(errors.list[i].text) > 4);
        require(i == 0 || errors.list[i].line == 0 ||
                errors.list[i - 1].line <= errors.list[i].line);
    }
    if (good) check_accepted(&config);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static const char start[] = "[cluster]\nid = 1\nnodes = 1@10.0.0.1:7100\n[node]\nid = 1\n"
                                "data_dir = x\n";
    if (size > 8192) return 0;
    // Exact, so that ASan sees the first byte too far.
    char *text = malloc(sizeof start + size);
    require(text != NULL);
    char *exact = malloc(size ? size : 1);
    require(exact != NULL);
    memcpy(exact, data, size);
    check(exact, size);
    free(exact);
    memcpy(text, start, sizeof start - 1);
    memcpy(text + sizeof start - 1, data, size);
    check(text, sizeof start - 1 + size);
    free(text);
    return 0;
}
