#!/usr/bin/env bash
# Installs the CUDA compiler and its headers in a manylinux_2_28 image, from NVIDIA's repository for RHEL 8. The wheels
# need nothing else of CUDA: fidfast loads the libraries of the machine that it runs on.
set -euo pipefail

release=13-0
repositories=https://developer.download.nvidia.com/compute/cuda/repos/rhel8
case $(uname -m) in
  x86_64) architecture=x86_64 ;;
  aarch64) architecture=sbsa ;;
  *) echo "NVIDIA has no CUDA compiler for $(uname -m)" >&2; exit 1 ;;
esac
dnf install -y 'dnf-command(config-manager)'
dnf config-manager --add-repo "$repositories/$architecture/cuda-rhel8.repo"
dnf install -y "cuda-nvcc-$release" "cuda-cudart-devel-$release" "cuda-cccl-$release"
/usr/local/cuda/bin/nvcc --version
