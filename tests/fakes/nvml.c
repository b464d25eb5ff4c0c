/* What we use of libnvidia-ml.so.1, without a driver: two cards with figures that tests know.

   The words in $FAKE_NVML say what is wrong with the machine; without the variable there is no driver. Structures are
   those of NVIDIA's nvml.h, as far as they are used. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef enum {
    SUCCESS = 0,
    NOT_SUPPORTED = 3,
    NO_PERMISSION = 4,
    NOT_FOUND = 6,
    INSUFFICIENT_SIZE = 7,
    DRIVER_NOT_LOADED = 9,
    TIMEOUT = 10,
    LIBRARY_NOT_FOUND = 12,
    FUNCTION_NOT_FOUND = 13,
    GPU_IS_LOST = 15,
    VERSION_MISMATCH = 18,
    UNKNOWN = 999
} Result;

/* A card is 1 or 2, an instance of it ten times that and its number. */
typedef long Device;

typedef struct { unsigned long long total, free, used; } Memory;
typedef struct { unsigned version; unsigned long long total, reserved, free, used; } Memory2;
typedef struct { unsigned gpu, memory; } Utilization;
typedef struct { unsigned pid; unsigned long long used; unsigned gpu_instance, compute_instance; } Process;
typedef struct { Device device; unsigned long long type, data; unsigned gpu_instance, compute_instance; } Event;

static const unsigned long long GIB = 1ULL << 30;
static int xid_told;

static int is(const char *word) {
    const char *said = getenv("FAKE_NVML");
    size_t length = strlen(word);
    for (; said != NULL; said = strchr(said, ' '), said = said == NULL ? NULL : said + 1)
        if (strncmp(said, word, length) == 0 && (said[length] == ' ' || said[length] == '\0'))
            return 1;
    return 0;
}

static int is_instance(Device device) { return device >= 10; }

/* What every question about a card begins with. */
static Result reached(Device device) {
    if (is("falls_off") && device == 2)
        return GPU_IS_LOST;
    return SUCCESS;
}

/* The same for what a small card has no sensor for. */
static Result sensed(Device device) { return is("bare") ? NOT_SUPPORTED : reached(device); }

Result nvmlInitWithFlags(unsigned flags) {
    if (getenv("FAKE_NVML") == NULL) return LIBRARY_NOT_FOUND;
    if (is("not_loaded")) return DRIVER_NOT_LOADED;
    if (is("mismatch")) return VERSION_MISMATCH;
    if (is("no_access")) return NO_PERMISSION;
    xid_told = 0;
    return SUCCESS;
}
Result nvmlShutdown(void) { return SUCCESS; }

const char *nvmlErrorString(Result result) {
    switch (result) {
    case GPU_IS_LOST: return "GPU is lost";
    case NO_PERMISSION: return "Insufficient Permissions";
    case NOT_SUPPORTED: return "Not Supported";
    default: return "Unknown Error";
    }
}

Result nvmlDeviceGetCount_v2(unsigned *count) {
    if (is("broken")) return UNKNOWN;
    *count = is("no_cards") ? 0 : 2;
    return SUCCESS;
}
Result nvmlDeviceGetHandleByIndex_v2(unsigned index, Device *device) {
    if (is("lost") && index == 1) return GPU_IS_LOST;
    *device = index + 1;
    return SUCCESS;
}
Result nvmlDeviceGetName(Device device, char *text, unsigned size) {
    snprintf(text, size, is("integrated") ? "NVIDIA GB10" : is_instance(device) ? "Card MIG 1g.10gb" : "Card %ld", device - 1);
    return reached(device);
}
Result nvmlDeviceGetUUID(Device device, char *text, unsigned size) {
    snprintf(text, size, is_instance(device) ? "MIG-%ld" : device == 1 ? "GPU-aa" : "GPU-bb", device);
    return reached(device);
}

static Result memory_of(Device device, Memory *memory) {
    if (is("no_memory") || is("integrated")) return NOT_SUPPORTED;
    if (is("broken_memory") && device == 2) return UNKNOWN;
    memory->total = (is_instance(device) ? 10 : 80) * GIB;
    memory->used = (is_instance(device) ? 2 : 61) * GIB;
    memory->free = memory->total - memory->used;
    return reached(device);
}
Result nvmlDeviceGetMemoryInfo(Device device, Memory *memory) { return memory_of(device, memory); }
Result nvmlDeviceGetMemoryInfo_v2(Device device, Memory2 *memory) {
    Memory plain = {0, 0, 0};
    Result result = memory_of(device, &plain);
    if (is("old_driver")) return FUNCTION_NOT_FOUND;
    memory->total = plain.total;
    memory->used = plain.used;
    memory->reserved = GIB;
    memory->free = plain.free - GIB;
    return result;
}

Result nvmlDeviceGetUtilizationRates(Device device, Utilization *rates) {
    if (is("mig")) return NOT_SUPPORTED;
    rates->gpu = 87;
    rates->memory = 40;
    return sensed(device);
}
Result nvmlDeviceGetTemperature(Device device, int sensor, unsigned *celsius) {
    *celsius = 61;
    return is_instance(device) ? NOT_SUPPORTED : sensed(device);
}
Result nvmlDeviceGetPowerUsage(Device device, unsigned *milliwatts) {
    *milliwatts = 412500;
    return is_instance(device) ? NOT_SUPPORTED : sensed(device);
}
Result nvmlDeviceGetEnforcedPowerLimit(Device device, unsigned *milliwatts) {
    *milliwatts = 700000;
    return is_instance(device) ? NOT_SUPPORTED : sensed(device);
}
Result nvmlDeviceGetClockInfo(Device device, unsigned clock, unsigned *mhz) {
    *mhz = 1980;
    return is_instance(device) ? NOT_SUPPORTED : sensed(device);
}
Result nvmlDeviceGetPcieThroughput(Device device, unsigned counter, unsigned *kilobytes) {
    *kilobytes = counter == 0 ? 2000 : 3000;
    return is_instance(device) ? NOT_SUPPORTED : sensed(device);
}
Result nvmlDeviceGetTotalEccErrors(Device device, unsigned kind, unsigned counter, unsigned long long *count) {
    *count = kind == 0 ? 5 : 1;
    return is_instance(device) ? NOT_SUPPORTED : sensed(device);
}
Result nvmlDeviceGetCurrentClocksEventReasons(Device device, unsigned long long *reasons) {
    if (is("old_driver")) return FUNCTION_NOT_FOUND;
    /* Idle, power cap, hardware thermal slowdown. */
    *reasons = 0x45;
    return is_instance(device) ? NOT_SUPPORTED : sensed(device);
}
Result nvmlDeviceGetCurrentClocksThrottleReasons(Device device, unsigned long long *reasons) {
    *reasons = 0x04;
    return sensed(device);
}

Result nvmlDeviceGetMaxMigDeviceCount(Device device, unsigned *count) {
    *count = is("mig") ? 7 : 0;
    return is("old_driver") ? FUNCTION_NOT_FOUND : reached(device);
}
Result nvmlDeviceGetMigDeviceHandleByIndex(Device device, unsigned index, Device *instance) {
    /* With a gap: instances are made and removed. */
    if (device != 1 || (index != 0 && index != 3)) return NOT_FOUND;
    *instance = device * 10 + index;
    return SUCCESS;
}

Result nvmlDeviceGetComputeRunningProcesses_v3(Device device, unsigned *count, Process *processes) {
    unsigned most = *count;
    if (is("no_processes")) return NO_PERMISSION;
    if (is_instance(device) || device == 2) {
        *count = 0;
        return reached(device);
    }
    *count = 2;
    if (most < 2) return INSUFFICIENT_SIZE;
    memset(processes, 0, 2 * sizeof *processes);
    processes[0].pid = 7;
    processes[0].used = is("no_sizes") ? ~0ULL : 57 * GIB;
    processes[1].pid = 99;
    processes[1].used = 3 * GIB;
    return SUCCESS;
}

Result nvmlEventSetCreate(Device *set) {
    *set = 1;
    return is("bare") ? NOT_SUPPORTED : SUCCESS;
}
Result nvmlEventSetFree(Device set) { return SUCCESS; }
Result nvmlDeviceRegisterEvents(Device device, unsigned long long types, Device set) {
    return types == 8 ? reached(device) : NOT_SUPPORTED;
}
Result nvmlEventSetWait_v2(Device set, Event *event, unsigned milliseconds) {
    if (!is("xid") || xid_told) return TIMEOUT;
    xid_told = 1;
    memset(event, 0, sizeof *event);
    event->device = 1;
    event->type = 8;
    event->data = 79;
    return SUCCESS;
}
