# Default architectures: machine code for each generation that a compiler of this version supports, and PTX for later
# ones.
function(default_cuda_architectures version result)
  if(version VERSION_LESS 12.8)
    set(${result} "80-real;90" PARENT_SCOPE)
  else()
    set(${result} "80-real;90-real;100" PARENT_SCOPE)
  endif()
endfunction()
