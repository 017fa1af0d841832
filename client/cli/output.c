// See output.h.
#include "output.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "args.h"
#include "exit_status.h"

#define CELL_BYTES 32 // any number, hash or duration

bool output_format_parse(const char *text, enum output_format *format) {
    static const char *const names[] = {
        [OUTPUT_SIMPLE] = "simple", [OUTPUT_TABLE] = "table", [OUTPUT_JSON] = "json"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        if (strcmp(text, names[i]) != 0) continue;
        *format = (enum output_format)i;
        return true;
    }
    return false;
}

void output_no_memory(void) {
    output_error("Out of memory.");
    exit(EXIT_SYSTEM);
}

void output_error(const char *format, ...) {
    va_list list;
    va_start(list, format);
    (void)fflush(stdout); // in the order it happened, where both go to one place
    (void)fputs("conclave: ", stderr);
    (void)vfprintf(stderr, format, list);
    (void)fputc('\n', stderr);
    va_end(list);
}

bool output_flush(void) {
    bool failed = fflush(stdout) != 0 || ferror(stdout);
    if (failed) output_error("The output could not be written: %s.", strerror(errno));
    return !failed;
}

// ---------------------------------------------------------------- records

void records_begin(struct records *records, const struct column *columns) {
    *records = (struct records){.columns = columns};
    while (columns[records->column_count].key) records->column_count++;
}

struct cell *records_add(struct records *records) {
    size_t columns = records->column_count;
    struct cell *cells =
        reallocarray(records->cells, (records->count + 1) * columns, sizeof *cells);
    if (!cells) output_no_memory();
    records->cells = cells;
    struct cell *added = cells + records->count++ * columns;
    memset(added, 0, columns * sizeof *added);
    return added;
}

void cell_number(struct cell *cell, uint64_t number) {
    cell->present = true;
    cell->number = number;
}

void cell_text(struct cell *cell, const char *text) {
    cell->present = true;
    free(cell->text);
    cell->text = strdup(text);
    if (!cell->text) output_no_memory();
}

void records_end(struct records *records) {
    for (size_t i = 0; i < records->count * records->column_count; i++) {
        free(records->cells[i].text);
    }
    free(records->cells);
    *records = (struct records){0};
}

// How a cell reads, in `buffer` unless it is text.
static const char *cell_shown(const struct column *column, const struct cell *cell,
                              char buffer[CELL_BYTES]) {
    if (!cell->present) return "-";
    switch (column->kind) {
    case COLUMN_TEXT:
        return cell->text;
    case COLUMN_HEX:
        (void)snprintf(buffer, CELL_BYTES, "0x%016" PRIx64, cell->number);
        return buffer;
    case COLUMN_MS:
        return duration_text(cell->number, buffer);
    case COLUMN_FLAG:
        return cell->number ? "yes" : "no";
    default:
        (void)snprintf(buffer, CELL_BYTES, "%" PRIu64, cell->number);
        return buffer;
    }
}
_Static_assert(CELL_BYTES >= DURATION_BYTES, "a duration fits a cell");

// ---------------------------------------------------------------- simple

void records_print_simple(const struct records *records) {
    char buffer[CELL_BYTES];
    for (size_t row = 0; row < records->count; row++) {
        const char *between = "";
        for (size_t i = 0; i < records->column_count; i++) {
            const struct column *column = &records->columns[i];
            const struct cell *cell = &records->cells[row * records->column_count + i];
            if (!cell->present) continue;
            const char *shown = cell_shown(column, cell, buffer);
            size_t key = strlen(column->key);
            if (column->kind == COLUMN_MS && key > 3) key -= 3; // "_ms": the unit is in the value
            if (column->bare) {
                (void)printf("%s%s", between, shown);
            } else {
                (void)printf("%s%.*s=%s", between, (int)key, column->key, shown);
            }
            between = " ";
        }
        (void)putchar('\n');
    }
}

// ---------------------------------------------------------------- table

static bool use_colours(void) {
    const char *no = getenv("NO_COLOR");
    return isatty(STDOUT_FILENO) && (!no || !*no);
}

static size_t shown_width(const char *text) { // characters, not bytes
    size_t width = 0;
    for (; *text; text++) width += ((unsigned char)*text & 0xc0) != 0x80;
    return width;
}

static void print_cell(const char *text, size_t width, bool right, const char *colour) {
    int pad = (int)(width - shown_width(text));
    (void)printf("%*s%s%s%s%*s", right ? pad : 0, "", colour, text, *colour ? "\033[0m" : "",
                 right ? 0 : pad, "");
}

static bool is_right_aligned(enum column_kind kind) {
    return kind == COLUMN_NUMBER || kind == COLUMN_MS;
}

static size_t column_width(const struct records *records, size_t i) {
    char buffer[CELL_BYTES];
    size_t width = shown_width(records->columns[i].title);
    for (size_t row = 0; row < records->count; row++) {
        const struct cell *cell = &records->cells[row * records->column_count + i];
        size_t shown = shown_width(cell_shown(&records->columns[i], cell, buffer));
        if (shown > width) width = shown;
    }
    return width;
}

static size_t last_shown(const struct records *records) { // its text needs no padding
    size_t i = records->column_count - 1;
    while (i > 0 && !records->columns[i].title) i--;
    return i;
}

// Row `row`, or the heading for SIZE_MAX.
static void print_row(const struct records *records, const size_t *widths, size_t row,
                      bool colours) {
    static const char *const codes[] = {[COLOUR_NONE] = "",
                                        [COLOUR_GOOD] = "\033[32m",
                                        [COLOUR_BAD] = "\033[31m",
                                        [COLOUR_DIM] = "\033[2m"};
    const char *between = "";
    for (size_t i = 0; i < records->column_count; i++) {
        const struct column *column = &records->columns[i];
        if (!column->title) continue;
        char buffer[CELL_BYTES];
        const char *text = column->title;
        enum colour colour = COLOUR_DIM;
        if (row != SIZE_MAX) {
            const struct cell *cell = &records->cells[row * records->column_count + i];
            text = cell_shown(column, cell, buffer);
            colour = cell->present ? cell->colour : COLOUR_DIM;
        }
        bool last = i == last_shown(records);
        bool right = is_right_aligned(column->kind);
        (void)fputs(between, stdout);
        print_cell(text, last && !right ? shown_width(text) : widths[i], right,
                   colours ? codes[colour] : "");
        between = "  ";
    }
    (void)putchar('\n');
}

void records_print_table(const struct records *records) {
    size_t *widths = calloc(records->column_count, sizeof *widths);
    if (!widths) output_no_memory();
    for (size_t i = 0; i < records->column_count; i++) {
        if (records->columns[i].title) widths[i] = column_width(records, i);
    }
    bool colours = use_colours();
    print_row(records, widths, SIZE_MAX, colours);
    for (size_t row = 0; row < records->count; row++) print_row(records, widths, row, colours);
    free(widths);
}

// ---------------------------------------------------------------- JSON

static json_t *cell_json(const struct column *column, const struct cell *cell) {
    char buffer[CELL_BYTES];
    if (!cell->present) return json_null();
    switch (column->kind) {
    case COLUMN_NUMBER:
    case COLUMN_MS:
        return json_integer((json_int_t)cell->number);
    case COLUMN_FLAG:
        return json_boolean(cell->number != 0);
    default:
        return json_string(cell_shown(column, cell, buffer));
    }
}

json_t *records_json(const struct records *records) {
    json_t *array = json_array();
    for (size_t row = 0; row < records->count; row++) {
        json_t *object = json_object();
        for (size_t i = 0; i < records->column_count; i++) {
            const struct cell *cell = &records->cells[row * records->column_count + i];
            json_t *value = cell_json(&records->columns[i], cell);
            if (!value || json_object_set_new(object, records->columns[i].key, value) != 0) {
                output_no_memory();
            }
        }
        if (json_array_append_new(array, object) != 0) output_no_memory();
    }
    return array;
}

void output_json(json_t *json) {
    if (!json) output_no_memory();
    (void)json_dumpf(json, stdout, JSON_INDENT(2));
    (void)putchar('\n');
    json_decref(json);
}
