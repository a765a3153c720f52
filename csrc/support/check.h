// Errors of the core. Users' mistakes are explained in Python before the core is called; here only
// invariants and the outside world (model files, memory, the CPU) are checked.
#pragma once

#include <stdexcept>
#include <string>

namespace qgbdt {

// A model file that is damaged, hostile or of another version.
struct ModelFormatError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// Another worker is gone, or has stopped with an error of its own.
struct WorkerLost : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// Workers have other sums, or other trees, than they should: memory or a network has failed.
struct WorkersDiffer : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// A device that has too little memory, or fails. The message says what to do.
struct DeviceFailure : std::runtime_error {
  using std::runtime_error::runtime_error;
};

inline void check(bool holds, const char* what) {
  if (!holds) throw std::invalid_argument(what);
}

}  // namespace qgbdt
