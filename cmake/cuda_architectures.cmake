# What the CUDA half is compiled for unless told otherwise: machine code of each generation that a compiler of this version
# knows, and PTX for what comes later.
function(default_cuda_architectures version result)
  if(version VERSION_LESS 12.8)
    set(${result} "80-real;90" PARENT_SCOPE)
  else()
    set(${result} "80-real;90-real;100" PARENT_SCOPE)
  endif()
endfunction()
