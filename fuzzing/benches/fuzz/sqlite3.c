// Executes SQL in a database in memory.
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "sqlite3.h"

enum { MOST_MEMORY = 32 << 20, OPERATIONS_A_STEP = 1000, MOST_STEPS = 20, MOST_BYTES_A_VALUE = 50000 };

static int progress(void *steps) {
    return ++*(int *)steps > MOST_STEPS;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    char *sql = malloc(size + 1);
    if (!sql) return 0;
    if (size) memcpy(sql, data, size);
    sql[size] = 0;
    sqlite3 *db = NULL;
    // What ATTACH and VACUUM INTO name is in memory, too: inputs write no files.
    if (sqlite3_open_v2(":memory:", &db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, "memdb") == SQLITE_OK) {
        int steps = 0;
        // The same random numbers for each input.
        sqlite3_test_control(SQLITE_TESTCTRL_PRNG_SEED, 1, NULL);
        sqlite3_hard_heap_limit64(MOST_MEMORY);
        sqlite3_limit(db, SQLITE_LIMIT_LENGTH, MOST_BYTES_A_VALUE);
        sqlite3_limit(db, SQLITE_LIMIT_VDBE_OP, 25000);
        sqlite3_progress_handler(db, OPERATIONS_A_STEP, progress, &steps);
        sqlite3_exec(db, sql, NULL, NULL, NULL);
    }
    sqlite3_close(db);
    free(sql);
    return 0;
}
