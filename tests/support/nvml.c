/* A driver's libnvidia-ml.so.1 as far as a renderer asks it: two GPUs, of which the second has a part (MIG).
 * What it answers is set by the environment. NVML_DOWN: there is no driver. NVML_LACKS: names of calls that are not
 * supported, apart by commas. NVML_REASONS: bits that hold the clocks down. */
#include <stdlib.h>
#include <string.h>

enum { OK = 0, NOT_SUPPORTED = 3, NOT_FOUND = 6, DRIVER_NOT_LOADED = 9 };

typedef struct { int number; int part; const char *uuid; } device;
typedef struct { unsigned long long total, unused, used; } memory;
typedef struct { unsigned int gpu, memory; } utilisation;

static device DEVICES[] = {{0, 0, "GPU-11111111-aaaa"}, {1, 0, "GPU-22222222-bbbb"}, {1, 1, "MIG-33333333-cccc"}};

static int lacks(const char *call) {
    const char *all = getenv("NVML_LACKS");
    return all != NULL && strstr(all, call) != NULL;
}

#define ASKED(call) if (lacks(#call)) return NOT_SUPPORTED

const char *nvmlErrorString(int code) { return code == NOT_SUPPORTED ? "Not Supported" : "Error"; }
int nvmlInitWithFlags(unsigned int flags) { (void)flags; return getenv("NVML_DOWN") ? DRIVER_NOT_LOADED : OK; }
int nvmlDeviceGetCount_v2(unsigned int *count) { *count = 2; return OK; }

int nvmlDeviceGetHandleByIndex_v2(unsigned int index, device **found) {
    if (index > 1) return NOT_FOUND;
    *found = &DEVICES[index];
    return OK;
}

int nvmlDeviceGetHandleByUUID(const char *uuid, device **found) {
    for (int n = 0; n < 3; n++)
        if (strcmp(DEVICES[n].uuid, uuid) == 0) { *found = &DEVICES[n]; return OK; }
    return NOT_FOUND;
}

int nvmlDeviceGetUUID(device *asked, char *uuid, unsigned int length) {
    strncpy(uuid, asked->uuid, length);
    return OK;
}

int nvmlDeviceIsMigDeviceHandle(device *asked, unsigned int *is) { *is = asked->part; return OK; }
int nvmlDeviceGetDeviceHandleFromMigDeviceHandle(device *asked, device **whole) {
    *whole = &DEVICES[asked->number];
    return OK;
}

int nvmlDeviceGetMemoryInfo(device *asked, memory *said) {
    ASKED(MemoryInfo);
    said->total = asked->part ? 10000 : 80000;
    said->used = 1000 + asked->number;
    said->unused = said->total - said->used;
    return OK;
}

int nvmlDeviceGetUtilizationRates(device *asked, utilisation *said) {
    ASKED(UtilizationRates);
    said->gpu = 75 + asked->number;
    said->memory = 1;
    return OK;
}

int nvmlDeviceGetPowerUsage(device *asked, unsigned int *milliwatts) {
    ASKED(PowerUsage);
    *milliwatts = 350500 + asked->number;
    return OK;
}

int nvmlDeviceGetEnforcedPowerLimit(device *asked, unsigned int *milliwatts) {
    (void)asked;
    ASKED(EnforcedPowerLimit);
    *milliwatts = 700000;
    return OK;
}

int nvmlDeviceGetTotalEnergyConsumption(device *asked, unsigned long long *millijoules) {
    (void)asked;
    ASKED(TotalEnergyConsumption);
    *millijoules = 5000000000250ULL; /* more than fits 32 bits */
    return OK;
}

int nvmlDeviceGetTemperature(device *asked, int sensor, unsigned int *degrees) {
    ASKED(Temperature);
    *degrees = sensor == 0 ? 61 + asked->number : 0;
    return OK;
}

int nvmlDeviceGetCurrentClocksThrottleReasons(device *asked, unsigned long long *reasons) {
    (void)asked;
    ASKED(ThrottleReasons);
    *reasons = getenv("NVML_REASONS") ? strtoull(getenv("NVML_REASONS"), NULL, 0) : 1; /* 1: idle */
    return OK;
}

int nvmlDeviceGetTotalEccErrors(device *asked, int kind, int counter, unsigned long long *errors) {
    ASKED(TotalEccErrors);
    *errors = counter == 0 ? (unsigned long long)(kind == 0 ? 12 : 3) + asked->number : 999; /* 0: volatile */
    return OK;
}
