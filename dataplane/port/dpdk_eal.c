// EAL wants an argv that lives as long as the process and may reorder it, so the string is copied
// to static memory and cut at its blanks. A failed rte_eal_init() cannot be repeated (it leaves
// half of itself behind), so its failure is remembered too.
#include "dpdk_eal.h"

#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_lcore.h>
#include <rte_log.h>

#define ARGUMENTS_MAX 64
#define TEXT_MAX      2048

static pthread_mutex_t start_lock = PTHREAD_MUTEX_INITIALIZER;
static enum { EAL_NEW, EAL_RUNNING, EAL_FAILED } state;
static char given[TEXT_MAX]; // as the first caller gave it, to compare
static char text[TEXT_MAX];  // cut into words
static char core[16];        // for -l
static char log_level[80];   // for --log-level
static char *words[ARGUMENTS_MAX + 8];
static char program[] = "conclave";

static bool starts_with(const char *word, const char *prefix) {
    return strncmp(word, prefix, strlen(prefix)) == 0;
}

static bool has_word(int count, const char *prefix) {
    for (int i = 1; i < count; i++) {
        if (starts_with(words[i], prefix)) return true;
    }
    return false;
}

static int cut_words(char error[256]) {
    int count = 0;
    words[count++] = program;
    char *rest = NULL;
    for (char *word = strtok_r(text, " \t\n", &rest); word; word = strtok_r(NULL, " \t\n", &rest)) {
        if (count > ARGUMENTS_MAX) {
            snprintf(error, 256, "more than %d EAL arguments: shorten them", ARGUMENTS_MAX);
            return -1;
        }
        words[count++] = word;
    }
    return count;
}

static int add_defaults(int count) {
    static char flag_cores[] = "-l";
    if (!has_word(count, "-l") && !has_word(count, "-c") && !has_word(count, "--lcores")) {
        cpu_set_t allowed;
        int first = 0;
        if (pthread_getaffinity_np(pthread_self(), sizeof allowed, &allowed) == 0) {
            while (first < CPU_SETSIZE - 1 && !CPU_ISSET(first, &allowed)) first++;
        }
        snprintf(core, sizeof core, "%d", first);
        words[count++] = flag_cores;
        words[count++] = core;
    }
    if (!has_word(count, "--log-level")) {
        const char *wanted = getenv("CONCLAVE_EAL_LOG");
        if (wanted == NULL || *wanted == 0) {
            rte_log_set_global_level(RTE_LOG_WARNING);
            wanted = "warning";
        }
        snprintf(log_level, sizeof log_level, "--log-level=%s", wanted);
        words[count++] = log_level;
    }
    return count;
}

static bool start(const char *arguments, char error[256]) {
    if (strlen(arguments) >= sizeof text) {
        snprintf(error, 256, "EAL arguments are longer than %zu bytes: shorten them",
                 sizeof text - 1);
        return false;
    }
    snprintf(given, sizeof given, "%s", arguments);
    snprintf(text, sizeof text, "%s", arguments);
    int count = cut_words(error);
    if (count < 0) return false;
    count = add_defaults(count);
    cpu_set_t allowed;
    int known = pthread_getaffinity_np(pthread_self(), sizeof allowed, &allowed);
    int result = rte_eal_init(count, words);
    int reason = rte_errno;
    if (known == 0) pthread_setaffinity_np(pthread_self(), sizeof allowed, &allowed);
    state = result < 0 ? EAL_FAILED : EAL_RUNNING;
    if (result >= 0) return true;
    snprintf(error, 256,
             "DPDK did not start (%s). Hugepages: `echo 64 > "
             "/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages`, or add --no-huge; a second "
             "process needs its own --file-prefix; CONCLAVE_EAL_LOG=debug tells more",
             rte_strerror(reason));
    return false;
}

bool dpdk_eal_start(const char *arguments, char error[256]) {
    bool good = false;
    pthread_mutex_lock(&start_lock);
    if (state == EAL_NEW) {
        good = start(arguments ? arguments : "", error);
    } else if (state == EAL_FAILED) {
        snprintf(error, 256,
                 "DPDK failed to start before: correct its arguments, then restart "
                 "this process");
    } else if (arguments != NULL && strcmp(arguments, given) != 0) {
        snprintf(error, 256,
                 "DPDK runs in this process with other EAL arguments: name all devices "
                 "in one string");
    } else {
        good = true;
    }
    pthread_mutex_unlock(&start_lock);
    return good;
}

void dpdk_eal_adopt_thread(void) {
    static _Thread_local bool tried;
    if (tried) return;
    tried = true;
    // Without an lcore id mempools work too, only without their caches: so failure is no harm.
    if (rte_lcore_id() == LCORE_ID_ANY) rte_thread_register();
}
