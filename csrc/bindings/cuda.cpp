// The extension module fidfast._cuda: the CUDA backend.
#include <cuda_runtime_api.h>

#include <memory>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "bindings/arrays.hpp"
#include "bindings/bind.hpp"
#include "bindings/dlpack.hpp"
#include "bindings/frechet.hpp"
#include "bindings/jackknife.hpp"
#include "bindings/moments.hpp"
#include "cuda/context.hpp"
#include "cuda/device.hpp"

namespace fidfast::bindings {

namespace {

struct CudaBinding {
  using Device = Cuda;

  static void prepare() {}

  class Session {
   public:
    explicit Session(int device) {
      const WithoutGil released;  // the first session loads libraries
      session_.emplace(device);
    }

   private:
    std::optional<cuda::Session> session_;
  };

  /// Features on the device: borrowed, or copied from host memory.
  class Features {
   public:
    Features(const py::object& array, int device, const py::object& stream) {
      if (!stream.is_none()) stream_ = py::cast<std::uintptr_t>(stream);
      const std::optional<int> source = cuda_device_of(array);
      if (!source) {
        upload(import_features(array).view);
        return;
      }
      if (*source != device) {
        throw py::value_error("features are on CUDA device " + std::to_string(*source) +
                              ", but the work is on device " + std::to_string(device));
      }
      // The exporter must make this stream wait for the work that writes the features.
      const auto own = reinterpret_cast<std::uintptr_t>(cuda::current().stream());
      bindings::Features borrowed = borrow_by_dlpack(exportable(array), py::int_(own));
      // Exporters assume that their current stream does, so wait for the given one too.
      if (stream_) cuda::current().wait_for(reinterpret_cast<cudaStream_t>(*stream_));
      view_ = borrowed.view;
      owner_ = std::move(borrowed.owner);
    }

    const AnyFeatures& view() const { return view_; }

    /// Makes the stream of the features wait until they have been read. If the stream is not given, the host waits.
    /// Throws if waiting fails, since the work is lost then.
    void done() {
      if (!owner_) return;  // a copy
      if (stream_) {
        try {
          return cuda::current().make_wait(reinterpret_cast<cudaStream_t>(*stream_));
        } catch (const cuda::Error&) {  // let the host wait instead
        }
      }
      cuda::current().synchronize();
    }

   private:
    static std::optional<int> cuda_device_of(const py::object& array) {
      if (!py::hasattr(array, "__dlpack_device__")) return std::nullopt;
      const auto device = py::cast<std::pair<int, int>>(call_python(array.attr("__dlpack_device__")));
      if (device.first != dlpack::kCuda && device.first != dlpack::kCudaManaged) return std::nullopt;
      return device.second;
    }

    void upload(const AnyFeatures& on_host) {
      std::visit(
          [&](const auto& features) {
            using S = std::decay_t<decltype(*features.data)>;
            std::vector<S> rows(static_cast<std::size_t>(features.n * features.dim));
            for (Index i = 0; i < features.n; ++i) {
              for (Index j = 0; j < features.dim; ++j) {
                rows[static_cast<std::size_t>(i * features.dim + j)] = features.row(i)[j * features.column_stride];
              }
            }
            auto copy = std::make_shared<Matrix<Cuda, S>>(features.dim, features.n);
            Cuda::from_host(copy->data(), rows.data(), rows.size() * sizeof(S));
            view_ = FeatureView<S>{copy->data(), features.n, features.dim, features.dim, 1};
            copy_ = std::move(copy);
          },
          on_host);
    }

    AnyFeatures view_;
    py::object owner_;
    std::shared_ptr<void> copy_;
    std::optional<std::uintptr_t> stream_;
  };

  /// A copy on the host.
  static py::array read_only_array(const Matrix<Cuda>& matrix, std::vector<Index> shape, const py::handle&) {
    py::array result = array_of(matrix, std::move(shape));
    result.attr("setflags")(py::arg("write") = false);
    return result;
  }
};

py::tuple device_count() {
  std::string why;
  const int count = cuda::device_count(&why);
  return py::make_tuple(count, why);
}

/// Allocates nothing on the device.
py::dict describe(int device) {
  cuda::require_device(device);
  cudaDeviceProp properties{};
  cuda::check(cudaGetDeviceProperties(&properties, device), "cudaGetDeviceProperties");
  py::dict result;
  result["name"] = std::string(properties.name);
  result["compute_capability"] = py::make_tuple(properties.major, properties.minor);
  result["memory"] = properties.totalGlobalMem;
  result["multiprocessors"] = properties.multiProcessorCount;
  result["tensor_cores"] = cuda::is_slow_in_double(device);
  return result;
}

/// Loads the libraries.
py::dict versions() {
  int driver = 0;
  int runtime = 0;
  cuda::check(cudaDriverGetVersion(&driver), "cudaDriverGetVersion");
  cuda::check(cudaRuntimeGetVersion(&runtime), "cudaRuntimeGetVersion");
  const cuda::Libraries& libraries = cuda::libraries();
  const auto property = [&](libraryPropertyType type) {
    int value = 0;
    cuda::check_blas(libraries.cublasGetProperty(type, &value), "cublasGetProperty");
    return std::to_string(value);
  };
  int cusolver = 0;
  cuda::check_solver(libraries.cusolverGetVersion(&cusolver), "cusolverGetVersion");
  py::dict result;
  result["driver"] = driver;
  result["runtime"] = runtime;
  result["cublas"] = property(MAJOR_VERSION) + "." + property(MINOR_VERSION) + "." + property(PATCH_LEVEL);
  result["cublas_path"] = libraries.cublas_path;
  result["cusolver"] = cusolver;
  result["cusolver_path"] = libraries.cusolver_path;
  return result;
}

}  // namespace

}  // namespace fidfast::bindings

PYBIND11_MODULE(_cuda, module) {
  using namespace fidfast::bindings;
  module.doc() = "Compiled core of fidfast: moments and Frechet distances on CUDA GPUs.";
  module.attr("__version__") = FIDFAST_VERSION;
  module.attr("architectures") = FIDFAST_CUDA_ARCHITECTURES;
  prepare_for_exit();
  look_up_numpy();
  bind<CudaBinding>(module);
  module.def("device_count", &device_count);
  module.def("describe", &describe, py::arg("device"));
  module.def("versions", &versions);
}
