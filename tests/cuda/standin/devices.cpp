#include "devices.hpp"

#include <map>

#include "calls.hpp"

namespace standin {
namespace {

constexpr int kDriverVersion = 13000;

std::map<int, Device> devices;
int count = 2;
cudaError_t error_of_driver = cudaSuccess;
int version_of_driver = kDriverVersion;
thread_local int current = 0;

}  // namespace

int device_count() { return count; }
void set_device_count(int new_count) { count = new_count; }

void check_device(int id) {
  if (id < 0 || id >= count) throw Misuse(text("there is no device ", id), cudaErrorInvalidDevice);
}

Device& device(int id) { return devices[id]; }

std::vector<int> known_devices() {
  std::vector<int> ids;
  for (const auto& [id, device] : devices) ids.push_back(id);
  return ids;
}

void forget_lost_contexts() {
  for (auto& [id, device] : devices) device.lost = cudaSuccess;
}

int current_device() { return current; }
void set_current_device(int id) { current = id; }

cudaError_t driver_error() {
  if (error_of_driver != cudaSuccess) return error_of_driver;
  return count == 0 ? cudaErrorNoDevice : cudaSuccess;
}

int driver_version() { return version_of_driver; }

void set_driver(cudaError_t error, int version) {
  error_of_driver = error;
  version_of_driver = version < 0 ? kDriverVersion : version;
}

cudaError_t context_error(int id) {
  const auto found = devices.find(id);
  return found == devices.end() ? cudaSuccess : found->second.lost;
}

}  // namespace standin
