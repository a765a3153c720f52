#include "parallel.h"

#include <thread>
#include <utility>

#ifdef _OPENMP
#include <omp.h>
#endif
#if defined(__unix__) || defined(__APPLE__)
#include <pthread.h>
#endif

namespace qgbdt {
namespace {

// About 20 to 50 microseconds: longer than the serial part between two jobs of a tree, short enough
// that an idle team soon sleeps.
constexpr int kSpins = 1000;

inline void pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#endif
}

// After fork() the child's copy of the parent's OpenMP team points to threads that do not exist,
// and using it hangs. A new thread has no team yet, so a child opens its teams from a new thread.
std::atomic<bool> forked{false};

[[maybe_unused]] const bool watching_forks = [] {
#if defined(__unix__) || defined(__APPLE__)
  pthread_atfork(nullptr, nullptr, [] { forked = true; });
#endif
  return true;
}();

void open_region(int n_threads, const std::function<void(int)>& body) {
#ifdef _OPENMP
#pragma omp parallel num_threads(n_threads)
  body(omp_get_thread_num());
#else
  (void)n_threads;
  body(0);
#endif
}

}  // namespace

bool built_with_openmp() {
#ifdef _OPENMP
  return true;
#else
  return false;
#endif
}

void Team::work(int thread) {
  for (uint64_t claims = claims_.load(std::memory_order_acquire);
       (claims & kTaskMask) > 0 && thread < int(claims >> kTaskBits);) {
    if (!claims_.compare_exchange_weak(claims, claims - 1, std::memory_order_acq_rel)) continue;
    if (!failed_.load(std::memory_order_relaxed)) {
      try {
        (*task_)(n_tasks_ - int64_t(claims & kTaskMask), thread);
      } catch (...) {
        if (!failed_.exchange(true)) error_ = std::current_exception();
      }
    }
    done_.fetch_add(1, std::memory_order_release);
    claims = claims_.load(std::memory_order_acquire);
  }
}

void Team::announce() {
  news_.fetch_add(1, std::memory_order_release);
  news_.notify_all();
}

void Team::help(int thread) {
  for (;;) {
    const uint32_t seen = news_.load(std::memory_order_acquire);
    if (dismissed_.load(std::memory_order_acquire)) return;
    work(thread);
    for (int i = 0; i < kSpins && news_.load(std::memory_order_relaxed) == seen; ++i) pause();
    news_.wait(seen, std::memory_order_acquire);
  }
}

void Team::dismiss() {
  dismissed_.store(true, std::memory_order_release);
  announce();
}

void Team::run(int n_threads, int64_t n_tasks, const Task& task) {
  n_threads = int(std::min<int64_t>({n_threads, n_threads_, n_tasks}));
  if (n_threads <= 1) {
    for (int64_t i = 0; i < n_tasks; ++i) task(i, 0);
    return;
  }
  task_ = &task;
  n_tasks_ = n_tasks;
  done_.store(0, std::memory_order_relaxed);
  claims_.store(uint64_t(n_threads) << kTaskBits | uint64_t(n_tasks), std::memory_order_release);
  announce();
  work(0);
  for (int i = 0; done_.load(std::memory_order_acquire) < n_tasks; ++i) {
    if (i < kSpins) pause();
    else std::this_thread::yield();
  }
  if (failed_.exchange(false)) std::rethrow_exception(std::exchange(error_, nullptr));
}

void with_team(int n_threads, const std::function<void(Team&)>& body) {
  if (!built_with_openmp()) n_threads = 1;
  Team team(n_threads);
  if (n_threads <= 1) return body(team);
  std::exception_ptr error;
  const auto member = [&](int thread) {
    if (thread > 0) return team.help(thread);
    try {
      body(team);
    } catch (...) {
      error = std::current_exception();
    }
    team.dismiss();
  };
  if (forked) {
    std::thread([&] { open_region(n_threads, member); }).join();
  } else {
    open_region(n_threads, member);
  }
  if (error) std::rethrow_exception(error);
}

}  // namespace qgbdt
