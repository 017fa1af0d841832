// docs/configuration.md against the parser's table: the same keys in the same sections, and the
// defaults and ranges as the parser has them.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "config.h"

enum { COLUMN_KEY, COLUMN_MEANING, COLUMN_DEFAULT, COLUMN_ALLOWED, COLUMN_WHY, COLUMNS };

static const char *page_path;

static char *trim(char *text) {
    while (*text == ' ') text++;
    for (size_t n = strlen(text); n > 0 && (text[n - 1] == ' ' || text[n - 1] == '\n'); n--)
        text[n - 1] = 0;
    return text;
}

// "| a | b |" to its cells; returns their number.
static uint32_t cut_row(char *line, char *cells[COLUMNS]) {
    uint32_t count = 0;
    char *next = trim(line);
    if (*next != '|' || next[strlen(next) - 1] != '|') return 0;
    next[strlen(next) - 1] = 0;
    next++;
    for (char *cell; (cell = strsep(&next, "|")) != NULL; count++)
        if (count < COLUMNS) cells[count] = trim(cell);
    return count;
}

static const struct config_key *find(const char *section, const char *quoted) {
    uint32_t count;
    const struct config_key *keys = config_keys(&count);
    for (uint32_t i = 0; i < count; i++) {
        char name[64];
        snprintf(name, sizeof name, "`%s`", keys[i].name);
        if (strcmp(keys[i].section, section) == 0 && strcmp(name, quoted) == 0) return &keys[i];
    }
    return NULL;
}

static void check_row(const struct config_key *key, char *cells[COLUMNS]) {
    char expected[160];
    config_describe_range(key, expected, sizeof expected);
    assert_string_equal(cells[COLUMN_ALLOWED], expected);
    assert_true(strlen(cells[COLUMN_MEANING]) > 8);
    if (key->required) {
        assert_string_equal(cells[COLUMN_DEFAULT], "required");
    } else if (key->rest == NULL || key->rest[0] == 0) { // none, or derived: in words
        assert_true(cells[COLUMN_DEFAULT][0] != '`' && cells[COLUMN_DEFAULT][0] != 0);
        assert_string_not_equal(cells[COLUMN_DEFAULT], "required");
    } else {
        snprintf(expected, sizeof expected, "`%s%s`", key->rest,
                 key->kind == CONFIG_KIND_PERCENT ? "%" : "");
        assert_string_equal(cells[COLUMN_DEFAULT], expected);
    }
}

static void page_and_table_agree(void **state) {
    (void)state;
    FILE *page = fopen(page_path, "r");
    assert_non_null(page);
    char *line = NULL, section[64] = "";
    size_t room = 0;
    uint32_t count, rows = 0, row_of[CONFIG_KEYS_MAX] = {0};
    const struct config_key *keys = config_keys(&count);
    while (getline(&line, &room, page) > 0) {
        char *cells[COLUMNS];
        if (sscanf(line, "## [%60[^]]]", section) == 1) continue;
        if (strncmp(line, "| `", 3) != 0) continue;
        assert_int_equal(cut_row(line, cells), COLUMNS);
        const struct config_key *key = find(section, cells[COLUMN_KEY]);
        if (key == NULL) print_error("[%s] %s is not a key of the parser\n", section, cells[0]);
        assert_non_null(key);
        assert_int_equal(row_of[key - keys]++, 0); // once
        check_row(key, cells);
        rows++;
    }
    for (uint32_t i = 0; i < count; i++)
        if (row_of[i] == 0)
            print_error("[%s] %s is not on the page\n", keys[i].section, keys[i].name);
    assert_int_equal(rows, count);
    free(line);
    fclose(page);
}

int main(int argc, char **argv) {
    if (argc != 2) return 2;
    page_path = argv[1];
    const struct CMUnitTest tests[] = {cmocka_unit_test(page_and_table_agree)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
