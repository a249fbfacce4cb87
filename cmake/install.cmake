# `cmake --install` puts the daemon, the four libraries, their headers and a package file that
# find_package(guestscope) reads.
include(CMakePackageConfigHelpers)

install(TARGETS guestscope RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
install(TARGETS guestscope_arch guestscope_gdbproto guestscope_introspect
        EXPORT guestscopeTargets ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR})
foreach(layer arch gdbproto introspect)
  install(DIRECTORY ${layer}/ DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/guestscope/${layer} FILES_MATCHING PATTERN "*.h")
endforeach()
install(EXPORT guestscopeTargets NAMESPACE guestscope:: DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/guestscope)
configure_package_config_file(cmake/guestscopeConfig.cmake.in ${PROJECT_BINARY_DIR}/guestscopeConfig.cmake
  INSTALL_DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/guestscope)
write_basic_package_version_file(${PROJECT_BINARY_DIR}/guestscopeConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/guestscopeConfig.cmake ${PROJECT_BINARY_DIR}/guestscopeConfigVersion.cmake
        DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/guestscope)
