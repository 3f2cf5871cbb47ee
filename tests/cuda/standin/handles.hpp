// Handles of the stand-in: numbers that are not valid addresses, so that dereferencing them crashes.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <string>

#include "calls.hpp"

namespace standin {

std::uintptr_t new_handle();  // unique

template <class Object>
class Handles {
 public:
  explicit Handles(std::string kind) : kind_(std::move(kind)) {}

  void* add(std::shared_ptr<Object> object) {
    const std::uintptr_t handle = new_handle();
    objects_[handle] = std::move(object);
    count_live(kind_, +1);
    return reinterpret_cast<void*>(handle);
  }

  std::shared_ptr<Object> get(const void* handle) const {
    const auto found = objects_.find(reinterpret_cast<std::uintptr_t>(handle));
    if (found != objects_.end()) return found->second;
    const bool was_alive = destroyed_.count(reinterpret_cast<std::uintptr_t>(handle)) != 0;
    throw Misuse(text(was_alive ? "destroyed " : "no ", kind_, ": ", handle), cudaErrorInvalidResourceHandle);
  }

  std::shared_ptr<Object> remove(const void* handle) {
    std::shared_ptr<Object> object = get(handle);
    objects_.erase(reinterpret_cast<std::uintptr_t>(handle));
    destroyed_.insert(reinterpret_cast<std::uintptr_t>(handle));
    count_live(kind_, -1);
    return object;
  }

 private:
  std::string kind_;
  std::map<std::uintptr_t, std::shared_ptr<Object>> objects_;
  std::set<std::uintptr_t> destroyed_;
};

}  // namespace standin
