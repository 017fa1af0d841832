// The checkers checked: every history in bad/ must be refused by exactly the checkers that its
// second line names, every one in good/ by none; and a history must outlive being written and read.
#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "check.h"

static const char *folder; // of this test's sources

static struct history *load(const char *path, char refused_by[128]) {
    FILE *file = fopen(path, "r");
    if (file == NULL) fail_msg("cannot open %s", path);
    char line[256];
    assert_non_null(fgets(line, sizeof line, file)); // what is wrong in it, for people
    assert_int_equal(fscanf(file, "# refused by: %127[^\n]", refused_by), 1);
    struct history *history = history_create();
    uint32_t at;
    if (!history_read(history, file, &at)) fail_msg("%s: line %u after the heading", path, at);
    fclose(file);
    return history;
}

// How many checkers were wrong.
static uint32_t judge(const char *path, const struct history *history, const char *refused_by) {
    uint32_t wrong = 0;
    for (uint32_t i = 0; i < CHECKERS; i++) {
        struct verdict verdict = {0};
        checkers[i].check(history, &verdict);
        bool expected = strstr(refused_by, checkers[i].name) != NULL;
        if (verdict.broken) print_message("  %-8s %s\n", checkers[i].name, verdict.text);
        if (verdict.broken != expected) {
            print_message("  WRONG    %s %s %s\n", checkers[i].name,
                          verdict.broken ? "refuses" : "accepts", path);
            wrong++;
        }
        assert_true(verdict.broken == (verdict.text[0] != 0));
        assert_int_equal(verdict.undecided, 0);
    }
    return wrong;
}

static uint32_t judge_all(const char *kind, bool bad) {
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", folder, kind);
    struct dirent **names;
    int count = scandir(path, &names, NULL, alphasort);
    assert_true(count > 0);
    uint32_t judged = 0, wrong = 0;
    for (int i = 0; i < count; i++) {
        char refused_by[128];
        if (names[i]->d_name[0] != '.') {
            snprintf(path, sizeof path, "%s/%s/%s", folder, kind, names[i]->d_name);
            print_message("%s\n", names[i]->d_name);
            struct history *history = load(path, refused_by);
            assert_true(bad == (strcmp(refused_by, "none") != 0));
            wrong += judge(path, history, refused_by);
            history_destroy(history);
            judged++;
        }
        free(names[i]);
    }
    free(names);
    assert_int_equal(wrong, 0);
    return judged;
}

static void test_bad_histories_are_refused(void **state) {
    assert_true(judge_all("bad", true) >= 20);
}

static void test_good_histories_are_accepted(void **state) {
    assert_true(judge_all("good", false) >= 10);
}

static void test_each_checker_refuses_something(void **state) {
    char path[4096], refused_by[128];
    static const char *const files[CHECKERS] = {"answer_before_commit", "overlapping_beliefs",
                                                "command_nobody_sent", "queue_read_out_of_order"};
    for (uint32_t i = 0; i < CHECKERS; i++) {
        struct verdict verdict = {0};
        snprintf(path, sizeof path, "%s/bad/%s.jsonl", folder, files[i]);
        struct history *history = load(path, refused_by);
        checkers[i].check(history, &verdict);
        assert_true(verdict.broken);
        history_destroy(history);
    }
}

static void test_a_history_outlives_writing(void **state) {
    char path[4096], refused_by[128];
    snprintf(path, sizeof path, "%s/bad/queue_jumped.jsonl", folder);
    struct history *one = load(path, refused_by), *two = history_create();
    FILE *file = tmpfile();
    assert_non_null(file);
    assert_true(history_write(one, file));
    rewind(file);
    uint32_t line;
    assert_true(history_read(two, file, &line));
    fclose(file);
    assert_int_equal(one->operation_count, two->operation_count);
    assert_int_equal(one->entry_count, two->entry_count);
    assert_memory_equal(one->entries, two->entries, one->entry_count * sizeof one->entries[0]);
    assert_memory_equal(one->operations, two->operations,
                        one->operation_count * sizeof one->operations[0]);
    history_destroy(one);
    history_destroy(two);
}

int main(int argc, char **argv) {
    if (argc != 2) return 2;
    folder = argv[1];
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bad_histories_are_refused),
        cmocka_unit_test(test_good_histories_are_accepted),
        cmocka_unit_test(test_each_checker_refuses_something),
        cmocka_unit_test(test_a_history_outlives_writing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
