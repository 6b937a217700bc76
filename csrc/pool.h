// A small pool of sleeping threads, for processes where torch's own cannot be borrowed. Jobs are
// taken from one counter, so a thread that wakes late costs nothing but its help; the caller works
// too and waits only for jobs already begun.
#pragma once
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <mutex>
#include <system_error>
#include <thread>

#include <pthread.h>
#include <signal.h>
#include <unistd.h>

#include "float_mode.h"

class Pool {
public:
    using Work = std::function<void(int64_t job)>;
    using Lead = std::function<void()>;

    // The pool of this process. A forked child gets its own: threads do not survive a fork, nor does
    // a lock that another thread held, so that none is taken here. Pools are never destroyed:
    // threads asleep at exit hold nothing that is gone.
    static Pool& here() {
        static std::atomic<Pool*> current{nullptr};
        Pool* pool = current.load();
        if (pool && pool->owner_ == getpid()) return *pool;
        Pool* own = new Pool;
        if (current.compare_exchange_strong(pool, own)) return *own;
        delete own;  // another thread of this process was faster
        return *pool;
    }

    // Runs jobs 0 .. count-1 on up to `threads` threads; alone while another caller has the pool.
    // `lead` is what the caller does before its first job.
    void run(int threads, int64_t count, const Work& work, const Lead& lead = {}) {
        std::unique_lock turn(turn_, std::try_to_lock);
        if (!turn.owns_lock()) {
            if (lead) lead();
            for (int64_t job = 0; job < count; ++job) work(job);
            return;
        }
        const int helpers = threads - 1;
        {
            std::lock_guard guard(lock_);
            while (size_ < helpers && hire()) {}
            work_ = &work;
            count_ = count;
            mode_ = float_mode();
            next_.store(0, std::memory_order_relaxed);
            places_ = helpers;
        }
        helpers == 1 ? wake_.notify_one() : wake_.notify_all();
        if (lead) lead();
        take_jobs();
        for (int spin = 0; spin < 2000 && busy_.load(std::memory_order_acquire) > 0; ++spin) pause_thread();
        std::unique_lock guard(lock_);
        places_ = 0;
        done_.wait(guard, [this] { return busy_.load(std::memory_order_relaxed) == 0; });
    }

private:
    bool hire() {
        sigset_t all, before;
        sigfillset(&all);
        pthread_sigmask(SIG_SETMASK, &all, &before);  // signals are the interpreter's business
        bool hired = true;
        try {
            std::thread([this] { serve(); }).detach();
            ++size_;
        } catch (const std::system_error&) {
            hired = false;
        }
        pthread_sigmask(SIG_SETMASK, &before, nullptr);
        return hired;
    }

    void serve() {
        std::unique_lock guard(lock_);
        for (;;) {
            wake_.wait(guard, [this] { return places_ > 0; });
            --places_;
            busy_.fetch_add(1, std::memory_order_relaxed);
            guard.unlock();
            take_jobs();
            guard.lock();
            if (busy_.fetch_sub(1, std::memory_order_release) == 1) done_.notify_one();
        }
    }

    void take_jobs() {
        const FloatMode mode(mode_);
        for (;;) {
            const int64_t job = next_.fetch_add(1, std::memory_order_relaxed);
            if (job >= count_) return;
            (*work_)(job);
        }
    }

    const pid_t owner_ = getpid();
    std::mutex turn_;  // held by the one caller that the pool works for
    std::mutex lock_;  // guards what follows; jobs and the counter are set under it before a wake-up
    std::condition_variable wake_, done_;
    int size_ = 0, places_ = 0;
    std::atomic<int> busy_{0};
    std::atomic<int64_t> next_{0};
    int64_t count_ = 0;
    uint64_t mode_ = 0;
    const Work* work_ = nullptr;
};
