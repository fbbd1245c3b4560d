// Runs an onnxkiln artifact from C++17, with the TVM runtime that travels in it and libtvm_ffi alone: no Python.
//
// Loading an artifact runs its native code: open only artifacts that you trust. Sizes of its files are compared with
// the manifest, digests are not (README.md says how to check those with sha256sum).
#pragma once

#include <dlfcn.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <tvm/ffi/container/array.h>
#include <tvm/ffi/container/map.h>
#include <tvm/ffi/container/tensor.h>
#include <tvm/ffi/extra/json.h>
#include <tvm/ffi/extra/module.h>
#include <tvm/ffi/function.h>
#include <unistd.h>

#include <fstream>
#include <memory>
#include <set>
#include <sstream>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace onnxkiln {

namespace ffi = tvm::ffi;
using ffi::Tensor;

// One input or output. A dim is a size, or the name of an open dim (in outputs: an expression over such names).
struct Spec {
  std::string name;
  DLDataType dtype;
  std::vector<std::string> shape;
};

// A tensor over memory of the caller's; `owner` (may be null) is kept as long as the tensor lives. The memory must be
// contiguous and aligned to its element.
inline Tensor view(void* data, ffi::ShapeView shape, DLDataType dtype, std::shared_ptr<void> owner = nullptr) {
  struct Borrowed {
    void* data;
    std::shared_ptr<void> owner;
    void AllocData(DLTensor* tensor) { tensor->data = data; }
    void FreeData(DLTensor*) {}
  };
  return Tensor::FromNDAlloc(Borrowed{data, std::move(owner)}, shape, dtype, DLDevice{kDLCPU, 0});
}

// A tensor with memory of its own, not initialised.
inline Tensor empty(ffi::ShapeView shape, DLDataType dtype) {
  size_t bytes = ffi::GetDataSize(static_cast<size_t>(shape.Product()), dtype);
  std::shared_ptr<void> memory(::operator new(bytes ? bytes : 1), [](void* data) { ::operator delete(data); });
  void* data = memory.get();
  return view(data, shape, dtype, std::move(memory));
}

// A loaded artifact. One session serves one thread at a time; copies share library and weights, and cost next to
// nothing: give each thread its own. Errors are exceptions derived from std::exception.
class Session {
 public:
  // `threads` is how many threads one run uses at most; 0 means one per logical CPU.
  explicit Session(const std::string& folder, int threads = 0)
      : folder_(folder), threads_(threads > 0 ? threads : std::max(1u, std::thread::hardware_concurrency())) {
    manifest_ = read_manifest();
    open_runtime();
    library_ = std::make_shared<ffi::Module>(ffi::Module::LoadFromFile(checked(choose_library())));
    weights_ = map_weights();
    start_machine();
  }

  Session(const Session& other) { *this = other; }
  Session& operator=(const Session& other) {
    folder_ = other.folder_, threads_ = other.threads_, manifest_ = other.manifest_, library_ = other.library_;
    weights_ = other.weights_;
    start_machine();
    return *this;
  }

  std::vector<Spec> inputs() const { return specs("inputs"); }
  std::vector<Spec> outputs() const { return specs("outputs"); }

  // One run on the inputs, in the artifact's order. Dtypes, ranks and dims are checked; outputs own their memory.
  std::vector<Tensor> run(const std::vector<Tensor>& inputs) {
    size_t expected = list(object(manifest_, "contract"), "inputs").size();
    if (inputs.size() != expected) fail("takes " + std::to_string(expected) + " inputs");
    use_threads_(threads_);
    std::vector<ffi::AnyView> arguments(inputs.begin(), inputs.end());
    arguments.emplace_back(weights_);
    ffi::Any result;
    main_.CallPacked(arguments.data(), static_cast<int32_t>(arguments.size()), &result);
    auto outputs = result.cast<ffi::Array<Tensor>>();
    return {outputs.begin(), outputs.end()};
  }

 private:
  using Object = ffi::json::Object;
  using List = ffi::json::Array;

  [[noreturn]] void fail(const std::string& what) const { throw std::runtime_error(folder_ + ": " + what); }
  static Object object(const Object& parent, const char* key) { return parent[ffi::String(key)].cast<Object>(); }
  static List list(const Object& parent, const char* key) { return parent[ffi::String(key)].cast<List>(); }
  static std::string text(const Object& parent, const char* key) {
    return parent[ffi::String(key)].cast<ffi::String>();
  }
  static int64_t number(const Object& parent, const char* key) { return parent[ffi::String(key)].cast<int64_t>(); }

  Object read_manifest() const {
    std::ifstream file(folder_ + "/manifest.json");
    std::stringstream content;
    content << file.rdbuf();
    if (!file) fail("no manifest.json can be read");
    auto manifest = ffi::json::Parse(content.str()).cast<Object>();
    std::string schema = text(manifest, "schema");
    if (text(manifest, "format") != "onnxkiln-artifact" || schema.rfind("1.", 0) != 0)
      fail("is no artifact of schema 1.*; found " + schema);
    return manifest;
  }

  // The full path of a file that the manifest lists with its present size.
  std::string checked(const std::string& path) const {
    for (const auto& item : list(manifest_, "files")) {
      auto entry = item.cast<Object>();
      if (text(entry, "path") != path) continue;
      struct stat status;
      std::string full = folder_ + "/" + path;
      if (stat(full.c_str(), &status) != 0) fail(path + " is missing");
      if (status.st_size != number(entry, "size")) fail(path + " is not of the size that the manifest says");
      return full;
    }
    fail(path + " is not listed in the manifest");
  }

  // A process can hold one TVM runtime: one that is there already is used, and must be of the artifact's version.
  void open_runtime() const {
    if (ffi::Function::GetGlobal("vm.builtin.make_tuple").has_value()) return;
    auto runtime = manifest_[ffi::String("runtime")];
    if (runtime == nullptr) fail("carries no TVM runtime: link your program with libtvm_runtime.so");
    std::string path = checked(runtime.cast<ffi::String>());
    if (dlopen(path.c_str(), RTLD_NOW | RTLD_GLOBAL) == nullptr) fail(dlerror());
  }

  // The library for the most capable processor among those that this one can run.
  std::string choose_library() const {
    std::set<std::string> own = processor_features();
    std::string best, lacking;
    size_t most = 0;
    for (const auto& item : list(manifest_, "libraries")) {
      auto library = item.cast<Object>();
      List features = list(library, "features");
      std::string missing;
      for (const auto& feature : features) {
        std::string name = feature.cast<ffi::String>();
        if (!own.count(name)) missing += " " + name;
      }
      if (!missing.empty()) lacking += "; " + text(library, "isa") + " needs" + missing;
      if (missing.empty() && features.size() >= most) best = text(library, "path"), most = features.size();
    }
    if (best.empty()) fail("this processor lacks instructions that the code uses" + lacking);
    return best;
  }

  // What Linux reports, under LLVM's names.
  static std::set<std::string> processor_features() {
    const std::vector<std::pair<std::string, std::string>> renamed = {
        {"abm", "lzcnt"},      {"asimd", "neon"},     {"bmi1", "bmi"},           {"fp", "fp-armv8"},
        {"lahf_lm", "sahf"},   {"pni", "sse3"},       {"sse4_1", "sse4.1"},      {"sse4_2", "sse4.2"},
        {"amx_tile", "amx-tile"}, {"amx_int8", "amx-int8"}, {"amx_bf16", "amx-bf16"}};
    std::ifstream file("/proc/cpuinfo");
    std::set<std::string> features;
    for (std::string line; std::getline(file, line);) {
      if (line.rfind("flags", 0) != 0 && line.rfind("Features", 0) != 0) continue;
      std::istringstream words(line.substr(line.find(':') + 1));
      for (std::string word; words >> word;) {
        for (const auto& [from, to] : renamed)
          if (word == from) word = to;
        std::string name;
        for (char c : word)
          if (c != '_') name += c;
        features.insert(name);
      }
      break;
    }
    return features;
  }

  // The weights file is mapped: processes that load one artifact share its pages.
  ffi::Array<Tensor> map_weights() const {
    Object weights = object(manifest_, "weights");
    std::string path = checked(text(weights, "path"));
    int descriptor = open(path.c_str(), O_RDONLY | O_CLOEXEC);
    if (descriptor < 0) fail(path + " can't be opened");
    struct stat status;
    fstat(descriptor, &status);
    size_t size = static_cast<size_t>(status.st_size);
    void* start = size ? mmap(nullptr, size, PROT_READ, MAP_SHARED, descriptor, 0) : nullptr;
    close(descriptor);
    if (start == MAP_FAILED) fail(path + " can't be mapped");
    std::shared_ptr<void> mapping(start, [size](void* data) {
      if (data != nullptr) munmap(data, size);
    });
    ffi::Array<Tensor> tensors;
    for (const auto& item : list(weights, "tensors")) {
      auto weight = item.cast<Object>();
      std::vector<int64_t> shape;
      for (const auto& dim : list(weight, "shape")) shape.push_back(dim.cast<int64_t>());
      int64_t offset = number(weight, "offset"), bytes = number(weight, "nbytes");
      if (offset < 0 || bytes < 0 || static_cast<size_t>(offset + bytes) > size) fail("a weight lies outside its file");
      tensors.push_back(view(static_cast<char*>(start) + offset, ffi::ShapeView(shape.data(), shape.size()),
                             ffi::StringToDLDataType(text(weight, "dtype")), mapping));
    }
    return tensors;
  }

  void start_machine() {
    auto load = (*library_)->GetFunction("vm_load_executable", true);
    auto threads = (*library_)->GetFunction("onnxkiln_use_threads", true);
    if (!load.has_value() || !threads.has_value()) fail("its library is not onnxkiln's");
    use_threads_ = *threads;
    machine_ = std::make_shared<ffi::Module>((*load)().cast<ffi::Module>());
    constexpr int kPooled = 2;
    (*machine_)->GetFunction("vm_initialization").value()(static_cast<int>(kDLCPU), 0, kPooled);
    main_ = (*machine_)->GetFunction("main").value();
  }

  std::vector<Spec> specs(const char* key) const {
    std::vector<Spec> specs;
    for (const auto& item : list(object(manifest_, "contract"), key)) {
      auto spec = item.cast<Object>();
      std::vector<std::string> shape;
      for (const auto& dim : list(spec, "shape")) {
        auto size = dim.as<int64_t>();
        shape.push_back(size ? std::to_string(*size) : std::string(dim.cast<ffi::String>()));
      }
      specs.push_back({text(spec, "name"), ffi::StringToDLDataType(text(spec, "dtype")), shape});
    }
    return specs;
  }

  std::string folder_;
  int threads_ = 1;
  Object manifest_;
  std::shared_ptr<ffi::Module> library_, machine_;
  ffi::Array<Tensor> weights_;
  ffi::Function main_, use_threads_;
};

}  // namespace onnxkiln
