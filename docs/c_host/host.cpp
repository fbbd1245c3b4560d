// host ARTIFACT [DIM=SIZE...] < inputs > outputs
//
// Reads the bytes of all inputs, one after another, runs the artifact once and writes the bytes of all outputs.
#include "onnxkiln.hpp"

#include <iostream>
#include <map>

int main(int count, char** arguments) try {
  if (count < 2) throw std::runtime_error("usage: host ARTIFACT [DIM=SIZE...] < inputs > outputs");
  std::map<std::string, std::string> sizes;
  for (int i = 2; i < count; ++i) {
    std::string argument = arguments[i];
    size_t equals = argument.rfind('=');
    if (equals == std::string::npos) throw std::runtime_error(argument + " is not DIM=SIZE");
    sizes[argument.substr(0, equals)] = argument.substr(equals + 1);
  }
  onnxkiln::Session session(arguments[1]);

  std::vector<onnxkiln::Tensor> inputs;
  for (const onnxkiln::Spec& spec : session.inputs()) {
    std::vector<int64_t> shape;
    for (const std::string& dim : spec.shape) {
      std::string size = sizes.count(dim) ? sizes[dim] : dim;
      if (size.find_first_not_of("0123456789") != std::string::npos) throw std::runtime_error("give " + dim + "=SIZE");
      shape.push_back(std::stoll(size));
    }
    inputs.push_back(onnxkiln::empty({shape.data(), shape.size()}, spec.dtype));
    size_t bytes = tvm::ffi::GetDataSize(*inputs.back().GetDLTensorPtr());
    if (!std::cin.read(static_cast<char*>(inputs.back().data_ptr()), bytes))
      throw std::runtime_error("too few bytes for input " + spec.name);
  }
  for (const onnxkiln::Tensor& output : session.run(inputs)) {
    std::cerr << tvm::ffi::DLDataTypeToString(output.dtype()) << " " << output.shape() << "\n";
    size_t bytes = tvm::ffi::GetDataSize(*output.GetDLTensorPtr());
    std::cout.write(static_cast<const char*>(output.data_ptr()), bytes);
  }
  return 0;
} catch (const std::exception& error) {
  std::cerr << "host: " << error.what() << "\n";
  return 1;
}
