# Architectures that the CUDA backend is compiled for, as in CMAKE_CUDA_ARCHITECTURES.

# Those of the wheels: machine code for each generation that a compiler of this version supports, and PTX for later ones.
function(all_cuda_architectures version result)
  if(version VERSION_LESS 12.8)
    set(${result} "80-real;90" PARENT_SCOPE)
  else()
    set(${result} "80-real;90-real;100" PARENT_SCOPE)
  endif()
endfunction()

# Those of a build from source: machine code for the GPUs of this machine that the compiler supports, and PTX, which the
# driver compiles for any other GPU when it is used for the first time.
function(local_cuda_architectures compiler result)
  set(found "80-virtual")
  find_program(FIDFAST_NVIDIA_SMI nvidia-smi)
  if(FIDFAST_NVIDIA_SMI)
    execute_process(COMMAND ${FIDFAST_NVIDIA_SMI} --query-gpu=compute_cap --format=csv,noheader
                    OUTPUT_VARIABLE capabilities RESULT_VARIABLE failure ERROR_QUIET)
    execute_process(COMMAND ${compiler} --list-gpu-arch OUTPUT_VARIABLE supported ERROR_QUIET)
    if(NOT failure)
      string(REGEX MATCHALL "[0-9]+\\.[0-9]" capabilities "${capabilities}")
      list(REMOVE_DUPLICATES capabilities)
      foreach(capability IN LISTS capabilities)
        string(REPLACE "." "" number ${capability})
        if(capability VERSION_GREATER_EQUAL 8.0 AND supported MATCHES "compute_${number}[^0-9]")
          list(PREPEND found "${number}-real")
        endif()
      endforeach()
    endif()
  endif()
  set(${result} "${found}" PARENT_SCOPE)
endfunction()
