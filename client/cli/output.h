// What `conclave` prints: the same records in three forms.
//
//   simple   a line per record: field=value field=value ...; text a script can cut and a person
//   read table    columns under a heading, aligned, coloured on a terminal (not with NO_COLOR) json
//   objects whose names are the columns' keys; durations in milliseconds, hashes as text
//            because readers of JSON lose digits beyond 2^53
//
// Field names are part of the interface: they may be added to, never renamed.
#ifndef CONCLAVE_CLI_OUTPUT_H
#define CONCLAVE_CLI_OUTPUT_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum output_format { OUTPUT_SIMPLE, OUTPUT_TABLE, OUTPUT_JSON };
// False: no such format.
bool output_format_parse(const char *text, enum output_format *format);

enum column_kind {
    COLUMN_TEXT,
    COLUMN_NUMBER,
    COLUMN_HEX,  // 64 bits
    COLUMN_MS,   // a duration in milliseconds
    COLUMN_FLAG, // number: 0 or 1
};
enum colour { COLOUR_NONE, COLOUR_GOOD, COLOUR_BAD, COLOUR_DIM };

struct column {
    const char *key;   // JSON; simple prints it without a "_ms" at its end. NULL ends a list
    const char *title; // table; NULL: not shown there, for lack of width
    enum column_kind kind;
    bool bare; // simple: the value alone, as the first on its line
};
struct cell {
    bool present;
    enum colour colour;
    uint64_t number;
    char *text; // owned
};

struct records {
    const struct column *columns; // lent
    size_t column_count;
    size_t count;
    struct cell *cells; // count * column_count
};

// Out of memory ends the program with EXIT_SYSTEM, here and in what follows.
void records_begin(struct records *records, const struct column *columns);
// Appends a record with all cells absent. They are reached by column number; the pointer is valid
// until the next one is added.
struct cell *records_add(struct records *records);
void cell_number(struct cell *cell, uint64_t number);
void cell_text(struct cell *cell, const char *text); // copied
void records_print_simple(const struct records *records);
void records_print_table(const struct records *records);
json_t *records_json(const struct records *records); // a new array, absent cells are null
void records_end(struct records *records);

// Prints and frees it.
void output_json(json_t *json);
// Sentences on stderr, "conclave: " before and a line end after them.
__attribute__((format(printf, 1, 2))) void output_error(const char *format, ...);
// Everything printed has arrived? A full disk or a closed pipe is told here, once, at the end.
bool output_flush(void);
_Noreturn void output_no_memory(void);

#endif
