// The one door to threads.
//
// A team is opened once per fit (or prediction, or binning). One thread runs the algorithm and
// hands out tasks; the others help. A job ends when its tasks are done, not when every thread has
// come by, so a thread that a busy neighbour keeps off its core costs nothing but its help. (With
// one OpenMP region per job a neighbour made 50 trees take 43 s instead of 4.) No result depends on
// which thread ran a task.
#pragma once

#include <stdint.h>

#include <algorithm>
#include <atomic>
#include <exception>
#include <functional>

namespace qgbdt {

bool built_with_openmp();

// task(index, thread), thread < the n_threads asked for.
using Task = std::function<void(int64_t, int)>;

// As many of n_threads as `work` can feed: waking one costs as much as `work_per_thread`.
inline int threads_for(int64_t work, int64_t work_per_thread, int n_threads) {
  return int(std::clamp<int64_t>(work / work_per_thread, 1, std::max(n_threads, 1)));
}

class Team {
 public:
  explicit Team(int n_threads) : n_threads_(n_threads) {}
  int n_threads() const { return n_threads_; }

  int threads_for(int64_t work, int64_t work_per_thread) const {
    return qgbdt::threads_for(work, work_per_thread, n_threads_);
  }

  // Runs task(i, thread) for every i in [0, n_tasks) on at most n_threads threads. Exceptions are
  // rethrown. Called by the thread that runs the body of with_team only.
  void run(int n_threads, int64_t n_tasks, const Task& task);

  // Cuts [0, n) into blocks and runs body(begin, end, thread) for each.
  template <class Body>
  void run_blocks(int n_threads, int64_t n, int64_t block, const Body& body) {
    run(n_threads, (n + block - 1) / block,
        [&](int64_t i, int thread) { body(i * block, std::min(n, (i + 1) * block), thread); });
  }

 private:
  friend void with_team(int n_threads, const std::function<void(Team&)>& body);
  void help(int thread);  // until dismissed
  void dismiss();
  void work(int thread);
  void announce();

  const int n_threads_;
  // The job. It is stable while tasks are unclaimed or not done: a task is claimed by lowering
  // claims_, and only then is the rest of the job read. claims_ holds the unclaimed tasks and, in
  // the upper bits, how many threads may take them, in one word: a helper that comes late from the
  // job before must not take a task that is not for it.
  static constexpr int kTaskBits = 48;
  static constexpr uint64_t kTaskMask = (uint64_t(1) << kTaskBits) - 1;
  const Task* task_ = nullptr;
  int64_t n_tasks_ = 0;
  std::atomic<uint64_t> claims_{0};
  std::atomic<int64_t> done_{0};
  std::atomic<bool> failed_{false}, dismissed_{false};
  std::exception_ptr error_;
  std::atomic<uint32_t> news_{0};  // raised with every job, and at dismissal
};

// Opens a team of n_threads (this thread is one of them), runs body(team), closes it.
void with_team(int n_threads, const std::function<void(Team&)>& body);

}  // namespace qgbdt
