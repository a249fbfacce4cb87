# Shared settings: guestscope_library(NAME SOURCES…) makes one layer, guestscope_settings(TARGET) applies the warnings.
include(GNUInstallDirs)

function(guestscope_settings target)
  target_compile_options(${target} PRIVATE
    -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wsign-conversion -Wold-style-cast
    $<$<BOOL:${GUESTSCOPE_WERROR}>:-Werror>
    $<$<CXX_COMPILER_ID:Clang>:-Wthread-safety>)
endfunction()

# One static library per folder, exported as guestscope::NAME. Includes are written from the top ("arch/result.h").
function(guestscope_library name)
  set(target guestscope_${name})
  add_library(${target} STATIC ${ARGN})
  add_library(guestscope::${name} ALIAS ${target})
  set_target_properties(${target} PROPERTIES EXPORT_NAME ${name} POSITION_INDEPENDENT_CODE ON)
  target_compile_features(${target} PUBLIC cxx_std_23)
  target_include_directories(${target} PUBLIC
    $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}> $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}/guestscope>)
  guestscope_settings(${target})
endfunction()
