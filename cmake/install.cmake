# SPDX-License-Identifier: Apache-2.0
# What `cmake --install` puts where: library, headers, program, templates, man pages, completions, package files.
set(package_dir ${CMAKE_INSTALL_LIBDIR}/cmake/vmgraft)
install(TARGETS vmgraft EXPORT vmgraft-targets
  LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR} ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(DIRECTORY include/vmgraft DESTINATION ${CMAKE_INSTALL_INCLUDEDIR} FILES_MATCHING PATTERN "*.hpp")
install(EXPORT vmgraft-targets NAMESPACE vmgraft:: DESTINATION ${package_dir})
configure_package_config_file(cmake/vmgraft-config.cmake.in ${PROJECT_BINARY_DIR}/vmgraft-config.cmake
  INSTALL_DESTINATION ${package_dir})
write_basic_package_version_file(${PROJECT_BINARY_DIR}/vmgraft-config-version.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/vmgraft-config.cmake ${PROJECT_BINARY_DIR}/vmgraft-config-version.cmake
  DESTINATION ${package_dir})
# The prefix is relative to the file, so that the tree can be moved. A static library's users link what it links.
file(RELATIVE_PATH pc_prefix ${CMAKE_INSTALL_FULL_LIBDIR}/pkgconfig ${CMAKE_INSTALL_PREFIX})
if(BUILD_SHARED_LIBS)
  set(pc_requires Requires.private)
else()
  set(pc_requires Requires)
endif()
configure_file(cmake/vmgraft.pc.in ${PROJECT_BINARY_DIR}/vmgraft.pc @ONLY)
install(FILES ${PROJECT_BINARY_DIR}/vmgraft.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
install(DIRECTORY templates/ DESTINATION ${CMAKE_INSTALL_DATADIR}/vmgraft/templates FILES_MATCHING PATTERN "*.json")
install(FILES src/image/catalogue.json DESTINATION ${CMAKE_INSTALL_DATADIR}/vmgraft)
install(DIRECTORY man/ DESTINATION ${CMAKE_INSTALL_MANDIR}/man1 FILES_MATCHING PATTERN "*.1")
install(DIRECTORY man/ DESTINATION ${CMAKE_INSTALL_MANDIR}/man5 FILES_MATCHING PATTERN "*.5")
install(DIRECTORY man/ DESTINATION ${CMAKE_INSTALL_MANDIR}/man7 FILES_MATCHING PATTERN "*.7")
if(TARGET vmgraft_cli)
  install(TARGETS vmgraft_program RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
  install(TARGETS vmgraft_cli LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR}/vmgraft)
  install(FILES completions/vmgraft.bash DESTINATION ${CMAKE_INSTALL_DATADIR}/bash-completion/completions RENAME vmgraft)
  install(FILES completions/_vmgraft DESTINATION ${CMAKE_INSTALL_DATADIR}/zsh/vendor-completions)
  install(FILES completions/vmgraft.fish DESTINATION ${CMAKE_INSTALL_DATADIR}/fish/vendor_completions.d)
endif()
