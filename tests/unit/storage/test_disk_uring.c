// The real disk: what it has made must have a durable name before anything is acknowledged in it.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "disk.h"
#include "durable_names.h"

static char top[64], directory[96];

static int make_top(void **state) {
    (void)state;
    snprintf(top, sizeof top, "/tmp/conclave-disk-XXXXXX");
    if (mkdtemp(top) == NULL) return -1;
    snprintf(directory, sizeof directory, "%s/data", top);
    return 0;
}

static int remove_top(void **state) {
    (void)state;
    durable_names_remove(top);
    return 0;
}

static struct disk *open_disk(void) {
    char error[256] = "";
    struct disk *disk = disk_uring_open(directory, error);
    if (disk == NULL) fail_msg("%s", error);
    return disk;
}

static bool is_there(const char *name) {
    char path[160];
    snprintf(path, sizeof path, "%s/%s", directory, name);
    return access(path, F_OK) == 0;
}

static void test_a_new_directory_has_a_durable_name(void **state) {
    (void)state;
    struct disk *disk = open_disk();
    disk->ops->close(disk);
    durable_names_power_cut(top);
    assert_int_equal(access(directory, F_OK), 0);
}

static void test_a_new_file_has_a_durable_name(void **state) {
    (void)state;
    struct disk *disk = open_disk();
    bool created = false;
    assert_int_equal(disk->ops->open(disk, 0, "wal-00.seg", 8192, &created), 0);
    assert_true(created && is_there("wal-00.seg"));
    disk->ops->close(disk);
    durable_names_power_cut(top);
    assert_true(is_there("wal-00.seg"));
}

// Somebody else made it and was killed before the directory was synced: whoever finds it does it.
static void test_a_file_found_has_a_durable_name(void **state) {
    (void)state;
    struct disk *disk = open_disk();
    char path[160];
    snprintf(path, sizeof path, "%s/wal-00.seg", directory);
    FILE *file = fopen(path, "wx");
    assert_non_null(file);
    assert_int_equal(ftruncate(fileno(file), 8192), 0);
    assert_int_equal(fclose(file), 0);
    bool created = true;
    assert_int_equal(disk->ops->open(disk, 0, "wal-00.seg", 8192, &created), 0);
    assert_false(created);
    disk->ops->close(disk);
    durable_names_power_cut(top);
    assert_true(is_there("wal-00.seg"));
}

// That the power cut of these tests takes something away at all.
static void test_an_unsynced_name_is_lost(void **state) {
    (void)state;
    struct disk *disk = open_disk();
    char path[160];
    snprintf(path, sizeof path, "%s/unsynced", directory);
    FILE *file = fopen(path, "wx");
    assert_non_null(file);
    assert_int_equal(fclose(file), 0);
    disk->ops->close(disk);
    durable_names_power_cut(top);
    assert_false(is_there("unsynced"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_a_new_directory_has_a_durable_name, make_top,
                                        remove_top),
        cmocka_unit_test_setup_teardown(test_a_new_file_has_a_durable_name, make_top, remove_top),
        cmocka_unit_test_setup_teardown(test_a_file_found_has_a_durable_name, make_top, remove_top),
        cmocka_unit_test_setup_teardown(test_an_unsynced_name_is_lost, make_top, remove_top),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
