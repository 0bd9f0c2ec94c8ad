// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <vector>

#include "cli/terminal.hpp"

struct libscols_table;
struct libscols_line;

namespace vmgraft::cli {

struct Column {
  std::string name;
  enum class Kind {
    plain,
    right,
    tree,
    wide
  } kind = Kind::plain;  ///< wide: cut at the terminal's edge, kept elsewhere
};

/// An aligned table or tree. Only a terminal that says its width makes it cut anything.
class Table {
 public:
  Table(const Terminal& terminal, const std::vector<Column>& columns);

  /// An empty cell is printed as "-", so that columns stay countable. \returns the row's number.
  std::size_t add(const std::vector<std::string>& cells);
  /// A child of an earlier row.
  std::size_t add_below(std::size_t parent, const std::vector<std::string>& cells);
  /// Colour of a cell ("red", "green", "yellow"); ignored where colours are not welcome.
  void colour(std::size_t row, std::size_t column, const std::string& name);
  [[nodiscard]] std::string text();

 private:
  std::size_t add_line(libscols_line* parent, const std::vector<std::string>& cells);

  struct Unref {
    void operator()(libscols_table* table) const noexcept;
  };
  std::unique_ptr<libscols_table, Unref> table_;
  std::vector<libscols_line*> lines_;  ///< owned by the table
};

}  // namespace vmgraft::cli
