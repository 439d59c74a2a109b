/* A driverless libnvidia-ml.so.1 for tests: answers from the text file that $FAKE_NVML_STATE names.
 *
 * The file is read again whenever it changes, so a test can lose a card or move a counter under a running
 * reader. Lines are "key=value"; "[gpu]" starts a card (in index order), "[mig]" a slice of the card above it.
 * Lines before the first section are about the driver. A key that is missing is NVML_ERROR_NOT_SUPPORTED;
 * a value "!15" makes its call fail with code 15; "error=15" makes every call on that card fail but the
 * one that hands out its handle ("handle=!15" makes that one fail). Signatures: NVIDIA's NVML API reference.
 *
 * -DOLD_DRIVER leaves out what came with drivers newer than 470.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { SUCCESS = 0, UNINITIALIZED = 1, INVALID_ARGUMENT = 2, NOT_SUPPORTED = 3, NOT_FOUND = 6,
       INSUFFICIENT_SIZE = 7, DRIVER_NOT_LOADED = 9, TIMEOUT = 10 };
enum { SECTIONS_MAX = 64, KEYS_MAX = 40, KEY_BYTES = 24, VALUE_BYTES = 1024 };

typedef struct {
    int keys;
    int parent; /* of a slice: its card's section; of a card: 0 */
    char key[KEYS_MAX][KEY_BYTES];
    char value[KEYS_MAX][VALUE_BYTES];
} section;

typedef struct {
    char bus_id_legacy[16];
    unsigned domain, bus, device, pci_device_id, pci_subsystem_id;
    char bus_id[32];
} pci_info;
typedef struct { unsigned long long total, free, used; } memory;
typedef struct { unsigned version; unsigned long long total, reserved, free, used; } memory_v2;
typedef struct { unsigned gpu, memory; } utilization;
typedef struct { unsigned version, sensor; int degrees; } temperature;
typedef struct { unsigned pid; unsigned long long used; unsigned gpu_instance, compute_instance; } process;

static section sections[SECTIONS_MAX]; /* 0 is the driver; a handle points to its section */
static int section_count = 1;
static int started;
static struct stat seen;

static void load(void) {
    const char *path = getenv("FAKE_NVML_STATE");
    struct stat now;
    if (path == NULL || stat(path, &now) != 0) return;
    if (now.st_ino == seen.st_ino && now.st_mtim.tv_sec == seen.st_mtim.tv_sec &&
        now.st_mtim.tv_nsec == seen.st_mtim.tv_nsec && now.st_size == seen.st_size)
        return;
    FILE *file = fopen(path, "r");
    if (file == NULL) return;
    seen = now;
    memset(sections, 0, sizeof sections);
    section_count = 1;
    int card = 0;
    char line[KEY_BYTES + VALUE_BYTES];
    while (fgets(line, sizeof line, file) != NULL) {
        line[strcspn(line, "\n")] = 0;
        section *current = &sections[section_count - 1];
        char *equals = strchr(line, '=');
        if (line[0] == '[') {
            if (section_count == SECTIONS_MAX) abort();
            if (strcmp(line, "[gpu]") == 0) card = section_count;
            else sections[section_count].parent = card;
            section_count++;
        } else if (equals != NULL) {
            if (current->keys == KEYS_MAX) abort();
            *equals = 0;
            snprintf(current->key[current->keys], KEY_BYTES, "%s", line);
            snprintf(current->value[current->keys], VALUE_BYTES, "%s", equals + 1);
            current->keys++;
        }
    }
    fclose(file);
}

static const char *lookup(section *of, const char *key) {
    for (int place = 0; place < of->keys; place++)
        if (strcmp(of->key[place], key) == 0) return of->value[place];
    return NULL;
}

/* Find a value, or the code with which the call must fail. */
static int find(section *of, const char *key, const char **value) {
    load();
    while (lookup(&sections[0], "hang") != NULL) { /* a sick driver: no call returns */
        usleep(20000);
        load();
    }
    if (!started) return UNINITIALIZED;
    const char *failure = lookup(of, "error");
    if (failure == NULL && of->parent) failure = lookup(&sections[of->parent], "error");
    if (failure != NULL) return atoi(failure);
    *value = lookup(of, key);
    if (*value == NULL) return NOT_SUPPORTED;
    return **value == '!' ? atoi(*value + 1) : SUCCESS;
}

static int find_text(section *of, const char *key, char *out, unsigned size) {
    const char *value;
    int code = find(of, key, &value);
    if (code != SUCCESS) return code;
    return (unsigned)snprintf(out, size, "%s", value) < size ? SUCCESS : INSUFFICIENT_SIZE;
}

static int find_number(section *of, const char *key, unsigned long long *out) {
    const char *value;
    int code = find(of, key, &value);
    if (code == SUCCESS) *out = strtoull(value, NULL, 10);
    return code;
}

static int find_unsigned(section *of, const char *key, unsigned *out) {
    unsigned long long number;
    int code = find_number(of, key, &number);
    if (code == SUCCESS) *out = (unsigned)number;
    return code;
}

/* The nth section of a kind: cards (parent 0) or slices of one card. */
static section *nth(int parent, unsigned index) {
    for (int place = 1; place < section_count; place++)
        if (sections[place].parent == parent && index-- == 0) return &sections[place];
    return NULL;
}

/* The nth item of a comma-separated list. */
static int item(const char *list, unsigned index, char *out, size_t size) {
    while (*list) {
        size_t length = strcspn(list, ",");
        if (index-- == 0) {
            snprintf(out, size, "%.*s", (int)length, list);
            return 1;
        }
        list += length;
        if (*list == ',') list++;
    }
    return 0;
}

/* ── the driver ─────────────────────────────────────────────────────────────────── */

int nvmlInitWithFlags(unsigned flags) {
    (void)flags;
    load();
    if (section_count == 1 && sections[0].keys == 0) return DRIVER_NOT_LOADED;
    const char *init = lookup(&sections[0], "init");
    if (init != NULL) return atoi(init + 1);
    started++;
    return SUCCESS;
}

int nvmlShutdown(void) {
    if (!started) return UNINITIALIZED;
    started--;
    return SUCCESS;
}

const char *nvmlErrorString(int code) {
    (void)code;
    return "an error that pynvml does not know";
}

int nvmlSystemGetDriverVersion(char *out, unsigned size) { return find_text(&sections[0], "driver", out, size); }

int nvmlDeviceGetCount_v2(unsigned *count) {
    const char *unused;
    int code = find(&sections[0], "count", &unused);
    if (code != SUCCESS && code != NOT_SUPPORTED) return code;
    for (*count = 0; nth(0, *count) != NULL;) ++*count;
    return SUCCESS;
}

int nvmlDeviceGetHandleByIndex_v2(unsigned index, section **out) {
    load();
    if (!started) return UNINITIALIZED;
    *out = nth(0, index);
    if (*out == NULL) return INVALID_ARGUMENT;
    const char *failure = lookup(*out, "handle");
    return failure != NULL ? atoi(failure + 1) : SUCCESS;
}

/* ── facts of one card ──────────────────────────────────────────────────────────── */

int nvmlDeviceGetUUID(section *of, char *out, unsigned size) { return find_text(of, "uuid", out, size); }
int nvmlDeviceGetName(section *of, char *out, unsigned size) { return find_text(of, "name", out, size); }
int nvmlDeviceGetArchitecture(section *of, unsigned *out) { return find_unsigned(of, "arch", out); }
int nvmlDeviceGetMaxPcieLinkGeneration(section *of, unsigned *out) { return find_unsigned(of, "pcie_gen", out); }
int nvmlDeviceGetMaxPcieLinkWidth(section *of, unsigned *out) { return find_unsigned(of, "pcie_width", out); }
int nvmlDeviceGetMaxMigDeviceCount(section *of, unsigned *out) { return find_unsigned(of, "mig_max", out); }

int nvmlDeviceGetMigMode(section *of, unsigned *current, unsigned *pending) {
    int code = find_unsigned(of, "mig", current);
    *pending = *current;
    return code;
}

int nvmlDeviceGetMigDeviceHandleByIndex(section *of, unsigned index, section **out) {
    const char *unused;
    int code = find(of, "mig", &unused);
    if (code != SUCCESS) return code;
    *out = nth((int)(of - sections), index);
    return *out == NULL ? NOT_FOUND : SUCCESS;
}

static void fill_pci(const char *bus_id, pci_info *out) {
    memset(out, 0, sizeof *out);
    sscanf(bus_id, "%x:%x:%x", &out->domain, &out->bus, &out->device);
    snprintf(out->bus_id, sizeof out->bus_id, "%s", bus_id);
    snprintf(out->bus_id_legacy, sizeof out->bus_id_legacy, "%s", bus_id + 4);
}

int nvmlDeviceGetPciInfo_v3(section *of, pci_info *out) {
    const char *value;
    int code = find(of, "bus_id", &value);
    if (code == SUCCESS) fill_pci(value, out);
    return code;
}

int nvmlDeviceGetTopologyCommonAncestor(section *of, section *other, unsigned *level) {
    const char *list;
    char text[16];
    int code = find(of, "topology", &list);
    if (code != SUCCESS) return code;
    code = find(other, "topology", &(const char *){NULL});
    if (code != SUCCESS) return code;
    unsigned index = 0;
    while (nth(0, index) != NULL && nth(0, index) != other) index++;
    if (!item(list, index, text, sizeof text)) return INVALID_ARGUMENT;
    *level = (unsigned)atoi(text);
    return SUCCESS;
}

/* ── affinity ───────────────────────────────────────────────────────────────────── */

static int fill_mask(section *of, const char *key, unsigned words, unsigned long *out) {
    const char *list;
    char text[16];
    int code = find(of, key, &list);
    if (code != SUCCESS) return code;
    memset(out, 0, words * sizeof *out);
    for (unsigned index = 0; item(list, index, text, sizeof text); index++) {
        unsigned bit = (unsigned)atoi(text);
        if (bit / 64 >= words) continue; /* CPUs that the caller left no room for are cut off */
        out[bit / 64] |= 1ul << bit % 64;
    }
    return SUCCESS;
}

int nvmlDeviceGetCpuAffinity(section *of, unsigned words, unsigned long *out) {
    return fill_mask(of, "cpus", words, out);
}

#ifndef OLD_DRIVER
int nvmlDeviceGetMemoryAffinity(section *of, unsigned words, unsigned long *out, unsigned scope) {
    (void)scope;
    return fill_mask(of, "numa", words, out);
}
#endif

/* ── NVLink: "links" lists the far end of each link: a PCI bus id, "switch", or "off" ── */

static int find_link(section *of, unsigned link, char *out, size_t size) {
    const char *list;
    int code = find(of, "links", &list);
    if (code != SUCCESS) return code;
    return item(list, link, out, size) ? SUCCESS : INVALID_ARGUMENT;
}

int nvmlDeviceGetNvLinkState(section *of, unsigned link, unsigned *is_active) {
    char end[32];
    int code = find_link(of, link, end, sizeof end);
    if (code == SUCCESS) *is_active = strcmp(end, "off") != 0;
    return code;
}

int nvmlDeviceGetNvLinkVersion(section *of, unsigned link, unsigned *out) {
    char end[32];
    int code = find_link(of, link, end, sizeof end);
    return code != SUCCESS ? code : find_unsigned(of, "nvlink_version", out);
}

int nvmlDeviceGetNvLinkRemotePciInfo_v2(section *of, unsigned link, pci_info *out) {
    char end[32];
    int code = find_link(of, link, end, sizeof end);
    if (code != SUCCESS) return code;
    fill_pci(strcmp(end, "switch") == 0 ? "00000000:F1:00.0" : end, out);
    return SUCCESS;
}

#ifndef OLD_DRIVER
int nvmlDeviceGetNvLinkRemoteDeviceType(section *of, unsigned link, unsigned *out) {
    char end[32];
    int code = find_link(of, link, end, sizeof end);
    if (code == SUCCESS) *out = strcmp(end, "switch") == 0 ? 2 : 0;
    return code;
}
#endif

/* ── measurements ───────────────────────────────────────────────────────────────── */

int nvmlDeviceGetMemoryInfo(section *of, memory *out) {
    unsigned long long reserved = 0;
    int code = find_number(of, "memory_total", &out->total);
    if (code == SUCCESS) code = find_number(of, "memory_used", &out->used);
    find_number(of, "memory_reserved", &reserved);
    out->used += reserved;
    out->free = out->total - out->used;
    return code;
}

#ifndef OLD_DRIVER
int nvmlDeviceGetMemoryInfo_v2(section *of, memory_v2 *out) {
    if (out->version != 0x02000028) return 25;
    int code = find_number(of, "memory_total", &out->total);
    if (code == SUCCESS) code = find_number(of, "memory_used", &out->used);
    out->reserved = 0;
    find_number(of, "memory_reserved", &out->reserved);
    out->free = out->total - out->used - out->reserved;
    return code;
}

int nvmlDeviceGetTemperatureV(section *of, temperature *out) {
    if (out->version != 0x100000C || out->sensor != 0) return INVALID_ARGUMENT;
    return find_unsigned(of, "temperature", (unsigned *)&out->degrees);
}
#endif

int nvmlDeviceGetTemperature(section *of, unsigned sensor, unsigned *out) {
    return sensor != 0 ? INVALID_ARGUMENT : find_unsigned(of, "temperature", out);
}

int nvmlDeviceGetUtilizationRates(section *of, utilization *out) {
    out->memory = 0;
    return find_unsigned(of, "busy", &out->gpu);
}

int nvmlDeviceGetPowerUsage(section *of, unsigned *milliwatts) { return find_unsigned(of, "power_mw", milliwatts); }

int nvmlDeviceGetTotalEnergyConsumption(section *of, unsigned long long *millijoules) {
    return find_number(of, "energy_mj", millijoules);
}

int nvmlDeviceGetTotalEccErrors(section *of, unsigned error, unsigned counter, unsigned long long *out) {
    return error != 1 || counter != 0 ? INVALID_ARGUMENT : find_number(of, "ecc", out);
}

#ifndef OLD_DRIVER
static int fill_processes(section *of, const char *key, unsigned *count, process *out) {
    const char *list;
    char text[16];
    int code = find(of, key, &list);
    if (code != SUCCESS) return code;
    unsigned total = 0;
    while (item(list, total, text, sizeof text)) total++;
    int fits = total == 0 || (out != NULL && *count >= total);
    *count = total;
    if (!fits) return INSUFFICIENT_SIZE;
    for (unsigned index = 0; index < total; index++) {
        item(list, index, text, sizeof text);
        out[index] = (process){.pid = (unsigned)atoi(text), .used = 1 << 20};
    }
    return SUCCESS;
}

int nvmlDeviceGetComputeRunningProcesses_v3(section *of, unsigned *count, process *out) {
    return fill_processes(of, "compute", count, out);
}

int nvmlDeviceGetGraphicsRunningProcesses_v3(section *of, unsigned *count, process *out) {
    return fill_processes(of, "graphics", count, out);
}
#endif

/* ── health ─────────────────────────────────────────────────────────────────────── */

#ifndef OLD_DRIVER
int nvmlDeviceGetRemappedRows(section *of, unsigned *corrected, unsigned *uncorrected, unsigned *pending,
                              unsigned *failed) {
    *corrected = *uncorrected = *pending = *failed = 0;
    int code = find_unsigned(of, "remap_pending", pending);
    return code != SUCCESS ? code : find_unsigned(of, "remap_failed", failed);
}

int nvmlDeviceGetCurrentClocksEventReasons(section *of, unsigned long long *out) {
    return find_number(of, "slowdowns", out);
}

int nvmlDeviceGetNvLinkErrorCounter(section *of, unsigned link, unsigned counter, unsigned long long *out) {
    char end[32];
    int code = find_link(of, link, end, sizeof end);
    if (code != SUCCESS) return code;
    code = find_number(of, "link_errors", out);
    if (link != 0 || counter != 0) *out = 0; /* all of them on the first link */
    return code;
}

typedef struct {
    unsigned field, scope;
    long long timestamp, latency_us;
    int type, code;
    union { double d; unsigned u; unsigned long long ull; } value;
} field_value;

int nvmlDeviceGetFieldValues(section *of, int count, field_value *values) {
    const char *unused;
    int code = find(of, "uuid", &unused);
    if (code != SUCCESS) return code;
    for (int place = 0; place < count; place++)
        values[place].code =
            values[place].field == 230 ? find_unsigned(of, "recovery", &values[place].value.u) : NOT_SUPPORTED;
    return SUCCESS;
}

/* Events: "xid=79.1" is one Xid 79; another number after the point, or another code, is another event. */
typedef struct {
    section *device;
    unsigned long long type, data;
    unsigned gpu_instance, compute_instance;
} event;

enum { VALUE_SEEN = 32 };
static char seen_xid[SECTIONS_MAX][VALUE_SEEN];
static int registered[SECTIONS_MAX];

int nvmlEventSetCreate(void **set) {
    *set = registered;
    return SUCCESS;
}

int nvmlEventSetFree(void *set) { return set == registered ? SUCCESS : INVALID_ARGUMENT; }

int nvmlDeviceRegisterEvents(section *of, unsigned long long types, void *set) {
    const char *value;
    int code = find(of, "uuid", &value);
    if (code != SUCCESS) return code;
    if (!(types & 8) || set != registered) return INVALID_ARGUMENT;
    registered[of - sections] = 1;
    value = lookup(of, "xid");
    snprintf(seen_xid[of - sections], VALUE_SEEN, "%s", value == NULL ? "" : value);
    return SUCCESS;
}

int nvmlEventSetWait_v2(void *set, event *out, unsigned timeout_ms) {
    if (set != registered) return INVALID_ARGUMENT;
    for (unsigned waited_ms = 0;; waited_ms += 10) {
        const char *unused;
        find(&sections[0], "driver", &unused);
        for (int place = 1; place < section_count; place++) {
            const char *value = registered[place] ? lookup(&sections[place], "xid") : NULL;
            if (value == NULL || strcmp(value, seen_xid[place]) == 0) continue;
            snprintf(seen_xid[place], VALUE_SEEN, "%s", value);
            *out = (event){.device = &sections[place], .type = 8, .data = strtoull(value, NULL, 10)};
            return SUCCESS;
        }
        if (waited_ms >= timeout_ms) return TIMEOUT;
        usleep(10000);
    }
}
#endif
