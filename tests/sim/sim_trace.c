// What happened in a life, in order: told with --verbose, remembered for the case that a rule
// breaks, and hashed, so that two lives of one seed can be compared. Text is made only when
// somebody reads it: an event is kept as its format and its arguments.
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "sim_internal.h"

// The next conversion at or after *at: its length, 0: there is none. *at moves to it.
static uint32_t next_conversion(const char *format, uint32_t *at) {
    for (; format[*at] != 0; ++*at) {
        if (format[*at] != '%') continue;
        if (format[*at + 1] != '%') return 2 + (uint32_t)strcspn(format + *at + 1, "cdiusxX");
        ++*at;
    }
    return 0;
}

static void keep_argument(struct sim_event *event, uint32_t i, const char *conversion,
                          uint32_t length, va_list *list) {
    bool wide = memchr(conversion, 'l', length) != NULL;
    if (conversion[length - 1] == 's') {
        const char *text = va_arg(*list, const char *);
        snprintf(event->texts[i % SIM_EVENT_TEXTS], SIM_EVENT_TEXT, "%s", text);
        event->arguments[i] = XXH3_64bits(text, strlen(text));
    } else {
        event->arguments[i] = wide ? va_arg(*list, unsigned long) : va_arg(*list, unsigned int);
    }
}

static uint32_t describe(const struct sim_event *event, char *out, uint32_t room) {
    const char *format = event->format;
    uint32_t at = 0, length, used = 0, from = 0, i = 0;
    while ((length = next_conversion(format, &at)) > 0 && i < SIM_EVENT_ARGUMENTS) {
        char one[16];
        snprintf(one, sizeof one, "%.*s", (int)length, format + at);
        used +=
            (uint32_t)snprintf(out + used, room - used, "%.*s", (int)(at - from), format + from);
        if (one[length - 1] == 's')
            used += (uint32_t)snprintf(out + used, room - used, "%s",
                                       event->texts[i % SIM_EVENT_TEXTS]);
        else if (memchr(one, 'l', length) != NULL)
            used += (uint32_t)snprintf(out + used, room - used, one, event->arguments[i]);
        else
            used += (uint32_t)snprintf(out + used, room - used, one, (unsigned)event->arguments[i]);
        if (used >= room) return room - 1;
        at += length, from = at, i++;
    }
    used += (uint32_t)snprintf(out + used, room - used, "%s", format + from);
    return used < room ? used : room - 1;
}

static void print_event(const struct sim_event *event) {
    char line[400];
    describe(event, line, sizeof line);
    printf("%12.6f  %s\n", (double)event->at_ns / 1e9, line);
}

void sim_trace(struct sim *sim, const char *format, ...) {
    struct sim_event *event = &sim->events[sim->event_count++ % SIM_EVENTS];
    event->at_ns = sim->now_ns;
    event->format = format;
    va_list list;
    va_start(list, format);
    uint32_t at = 0, length, count = 0;
    for (; count < SIM_EVENT_ARGUMENTS && (length = next_conversion(format, &at)) > 0; at += length)
        keep_argument(event, count++, format + at, length, &list);
    va_end(list);
    sim_fold(sim, XXH3_64bits(format, strlen(format)), sim->now_ns);
    for (uint32_t i = 0; i < count; i++) sim_fold(sim, event->arguments[i], i);
    if (sim->options.verbose) print_event(event);
}

void sim_print_events(const struct sim *sim) {
    uint64_t first = sim->event_count > SIM_EVENTS ? sim->event_count - SIM_EVENTS : 0;
    if (first > 0) printf("%12s  %lu events before these\n", "...", (unsigned long)first);
    for (uint64_t i = first; i < sim->event_count; i++) print_event(&sim->events[i % SIM_EVENTS]);
}
