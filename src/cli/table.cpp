// SPDX-License-Identifier: Apache-2.0
#include "cli/table.hpp"

#include <cstdlib>
#include <new>

#include <libsmartcols/libsmartcols.h>

#include "model/names.hpp"

namespace vmgraft::cli {

namespace {

constexpr std::size_t kLongestCell = 1000;

int flags_of(Column::Kind kind) {
  switch (kind) {
    case Column::Kind::right:
      return SCOLS_FL_RIGHT;
    case Column::Kind::tree:
      return SCOLS_FL_TREE;
    case Column::Kind::wide:
      return SCOLS_FL_TRUNC;
    case Column::Kind::plain:
      break;
  }
  return 0;
}

/// libsmartcols fails for want of memory only, its arguments being right.
void require(int result) {
  if (result != 0) throw std::bad_alloc();
}

template <typename Pointer>
Pointer require(Pointer pointer) {
  if (pointer == nullptr) throw std::bad_alloc();
  return pointer;
}

}  // namespace

void Table::Unref::operator()(libscols_table* table) const noexcept {
  scols_unref_table(table);
}

Table::Table(const Terminal& terminal, const std::vector<Column>& columns) : table_(require(scols_new_table())) {
  // Left to itself libsmartcols asks stdout, and cuts at 50 columns on a terminal that does not tell its width.
  const bool fits = terminal.width > 0;
  // Without a width nothing is cut; a terminal of endless width still takes colours.
  require(scols_table_set_termforce(table_.get(), terminal.out ? SCOLS_TERMFORCE_ALWAYS : SCOLS_TERMFORCE_NEVER));
  if (terminal.out) require(scols_table_set_termwidth(table_.get(), fits ? terminal.width : 10000));
  require(scols_table_enable_colors(table_.get(), terminal.colour_out ? 1 : 0));
  for (const Column& column : columns) {
    require(scols_table_new_column(table_.get(), column.name.c_str(), 0, flags_of(column.kind)));
  }
}

std::size_t Table::add(const std::vector<std::string>& cells) {
  return add_line(nullptr, cells);
}

std::size_t Table::add_below(std::size_t parent, const std::vector<std::string>& cells) {
  return add_line(lines_.at(parent), cells);
}

std::size_t Table::add_line(libscols_line* parent, const std::vector<std::string>& cells) {
  libscols_line* line = require(scols_table_new_line(table_.get(), parent));
  for (std::size_t i = 0; i < cells.size(); ++i) {
    const std::string shown = cells[i].empty() ? "-" : printable(cells[i], kLongestCell);
    require(scols_line_set_data(line, i, shown.c_str()));
  }
  lines_.push_back(line);
  return lines_.size() - 1;
}

void Table::colour(std::size_t row, std::size_t column, const std::string& name) {
  require(scols_cell_set_color(require(scols_line_get_cell(lines_.at(row), column)), name.c_str()));
}

std::string Table::text() {
  char* text = nullptr;
  require(scols_print_table_to_string(table_.get(), &text));
  const std::unique_ptr<char, decltype(&std::free)> owner(text, &std::free);
  std::string printed = text == nullptr ? std::string{} : std::string(text);
  if (!printed.empty() && printed.back() != '\n') printed += '\n';
  return printed;
}

}  // namespace vmgraft::cli
