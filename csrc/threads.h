// Spreads the jobs of a step over threads: the ones that torch's operations run on, where they can
// be borrowed, else a pool of our own.
#pragma once
#include <dlfcn.h>

#include "pool.h"

// torch's OpenMP runtime, found in the process and never linked: a second runtime would fight the
// first for the cores. Its threads still spin for some milliseconds after a backward pass, so that
// other threads would have to share their cores, while they themselves can start at once.
class TorchThreads {
public:
    // `library` is the path of libtorch_cpu; an empty one gives the threads back.
    void borrow(const char* library) {
        region_ = nullptr;
        owner_ = getpid();
        if (void* torch = *library ? dlopen(library, RTLD_LAZY | RTLD_NOLOAD) : nullptr)
            region_ = reinterpret_cast<Region>(dlsym(torch, "GOMP_parallel"));
    }
    // OpenMP's threads do not survive a fork, and its runtime waits for them.
    bool usable() const { return region_ && owner_ == getpid(); }

    void run(int threads, int64_t count, const Pool::Work& work, const Pool::Lead& lead) const {
        Jobs jobs{{}, count, &work, &lead, std::this_thread::get_id(), float_mode()};
        region_(take, &jobs, unsigned(threads), 0);
    }

private:
    using Region = void (*)(void (*body)(void*), void* data, unsigned threads, unsigned flags);

    struct Jobs {
        std::atomic<int64_t> next;
        int64_t count;
        const Pool::Work* work;
        const Pool::Lead* lead;
        std::thread::id caller;
        uint64_t mode;
    };

    static void take(void* data) {
        Jobs& jobs = *static_cast<Jobs*>(data);
        const FloatMode mode(jobs.mode);
        if (*jobs.lead && std::this_thread::get_id() == jobs.caller) (*jobs.lead)();
        for (int64_t job; (job = jobs.next.fetch_add(1, std::memory_order_relaxed)) < jobs.count;)
            (*jobs.work)(job);
    }

    Region region_ = nullptr;
    pid_t owner_ = 0;
};

inline TorchThreads& torch_threads() {
    static TorchThreads instance;
    return instance;
}

// Runs jobs 0 .. count-1, on this thread alone where that is all there is to do. `lead` is what this
// thread does first, while others begin with the jobs already.
inline void run_jobs(int threads, int64_t count, const Pool::Work& work, const Pool::Lead& lead = {}) {
    threads = int(std::min<int64_t>(threads, count));
    if (threads <= 1) {
        if (lead) lead();
        for (int64_t job = 0; job < count; ++job) work(job);
    } else if (torch_threads().usable()) {
        torch_threads().run(threads, count, work, lead);
    } else {
        Pool::here().run(threads, count, work, lead);
    }
}
