// The pool under load: pool [JOBS]. Every job of every call runs once, whoever calls and forks.
#include "pool.h"

#include <sys/wait.h>

#include <cstdio>
#include <cstdlib>
#include <random>
#include <vector>

namespace {

[[noreturn]] void fail(const char* what) {
    std::fprintf(stderr, "pool: %s\n", what);
    std::exit(1);
}

constexpr int64_t MOST = 16;  // jobs in a call

// Calls of a few jobs on up to seven threads, until `jobs` are done. Each job adds to a plain number
// of its own, which the caller then reads: a race, a loss and a double run all show.
void work_through(long jobs, unsigned seed) {
    std::mt19937 random(seed);
    std::vector<long> runs(MOST);
    bool slow = false;
    std::atomic<bool> led{false};
    const Pool::Lead lead = [&] { led = true; };  // every job waits for it
    const Pool::Work work = [&](int64_t job) {
        for (int i = 0; slow && i < 5000; ++i) pause_thread();
        while (!led) std::this_thread::yield();
        ++runs[size_t(job)];
    };
    for (long done = 0; done < jobs;) {
        const int64_t count = 1 + random() % MOST;
        runs.assign(MOST, 0);
        slow = random() % 1024 == 0;
        led = false;
        Pool::here().run(2 + int(random() % 6), count, work, lead);
        for (int64_t job = 0; job < MOST; ++job)
            if (runs[size_t(job)] != (job < count)) fail("a job was lost or done twice");
        done += count;
    }
}

void callers_share_the_pool(long jobs) {
    std::vector<std::thread> callers;
    for (unsigned i = 0; i < 3; ++i) callers.emplace_back([=] { work_through(jobs / 3, i); });
    for (std::thread& caller : callers) caller.join();
}

// The child is forked while other threads work, and is one thread without their pool.
void children_have_their_own(int children) {
    std::atomic<bool> stop{false};
    std::thread busy([&] {
        while (!stop) work_through(100, 7);
    });
    for (int i = 0; i < children; ++i) {
        const pid_t child = fork();
        if (child == 0) {
            alarm(60);  // a child that waits for a lock of its parent's is killed
            work_through(100, unsigned(i));
            _exit(0);
        }
        int status = -1;
        waitpid(child, &status, 0);
        if (status != 0) fail("a forked child did not do its jobs");
    }
    stop = true;
    busy.join();
}

void helpers_have_the_callers_float_mode() {
#if defined(__x86_64__)
    constexpr uint64_t flush = 0x8040, modes[] = {flush, 0};
    const uint64_t before = float_mode();
    for (int turn = 0; turn < 1000; ++turn) {
        const FloatMode mode((before & ~flush) | modes[turn % 2]);
        std::atomic<bool> same{true};
        Pool::here().run(3, 8, [&](int64_t) { same = same && (float_mode() & flush) == modes[turn % 2]; });
        if (!same) fail("a helper ran in another floating-point mode");
    }
#endif
}

}  // namespace

int main(int count, char** arguments) {
    const long jobs = count > 1 ? std::atol(arguments[1]) : 1'000'000;
    work_through(jobs, 0);
    callers_share_the_pool(jobs);
    helpers_have_the_callers_float_mode();
#if !defined(__SANITIZE_THREAD__)  // which knows no threads in a forked child
    children_have_their_own(200);
#endif
    std::printf("pool: %ld jobs, each run once\n", jobs / 3 * 3 + jobs);
}
