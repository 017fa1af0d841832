// Runs a fuzz target over files, and over small damage to each: every truncation and, at every
// byte, a few values. No fuzzer, but enough to notice when a target has come to fail.
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fuzz.h"

#define INPUT_MAX 4096u

static unsigned long runs;

static void run(const uint8_t *data, size_t size) {
    // An exact copy on the heap, so that ASan sees a read past the end.
    uint8_t *copy = malloc(size ? size : 1);
    if (copy == NULL) abort();
    memcpy(copy, data, size);
    LLVMFuzzerTestOneInput(copy, size);
    free(copy);
    runs++;
}

static void run_damaged(uint8_t *data, size_t size) {
    static const uint8_t values[] = {0x00, 0x01, 0x7f, 0x80, 0xff};
    run(data, size);
    for (size_t cut = 0; cut < size; cut++) run(data, cut);
    for (size_t i = 0; i < size; i++) {
        uint8_t was = data[i];
        for (size_t k = 0; k < sizeof values; k++) {
            data[i] = values[k];
            run(data, size);
        }
        data[i] = was;
    }
}

static int run_file(const char *directory, const char *name) {
    static uint8_t data[INPUT_MAX];
    char path[1024];
    snprintf(path, sizeof path, "%s/%s", directory, name);
    FILE *file = fopen(path, "rb");
    if (file == NULL) {
        perror(path);
        return 1;
    }
    size_t size = fread(data, 1, sizeof data, file);
    fclose(file);
    run_damaged(data, size);
    return 0;
}

int main(int argc, char **argv) {
    int failed = argc < 2;
    unsigned long files = 0;
    for (int i = 1; i < argc; i++) {
        DIR *directory = opendir(argv[i]);
        if (directory == NULL) {
            perror(argv[i]);
            return 1;
        }
        for (struct dirent *entry; (entry = readdir(directory)) != NULL;) {
            if (entry->d_name[0] == '.') continue;
            failed |= run_file(argv[i], entry->d_name);
            files++;
        }
        closedir(directory);
    }
    printf("%lu inputs from %lu files\n", runs, files);
    if (files == 0) fprintf(stderr, "no corpus: name its directories\n");
    return failed || files == 0;
}
