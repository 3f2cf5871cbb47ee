// Bindings of NgramCounts. Strings are borrowed, not copied.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "bindings/arrays.hpp"
#include "core/ngrams/ngrams.hpp"

namespace fidfast::bindings {

namespace ngrams {

/// Items between two calls of yield_gil().
constexpr Index kYield = 1 << 14;

inline NgramLevel level_of(const std::string& name) {
  if (name == "char") return NgramLevel::kChar;
  if (name == "word") return NgramLevel::kWord;
  throw py::value_error("level must be 'char' or 'word', got '" + name + "'");
}

inline std::string type_name(const py::handle& object) {
  return py::cast<std::string>(py::type::of(object).attr("__name__"));
}

/// View of the code points of a str.
inline TextView text_of(const py::handle& text) {
#if PY_VERSION_HEX < 0x030C0000
  if (PyUnicode_READY(text.ptr()) != 0) throw py::error_already_set();
#endif
  return {PyUnicode_DATA(text.ptr()), PyUnicode_GET_LENGTH(text.ptr()), static_cast<int>(PyUnicode_KIND(text.ptr()))};
}

/// Collects texts in batches, with references that keep them alive while they are counted without the GIL.
class TextBatch {
 public:
  TextBatch(NgramTally& tally, Index threads) : tally_(tally), threads_(threads) {}

  /// Counts all texts of an iterable, or a single str.
  void take_all(const py::object& texts) {
    if (PyUnicode_Check(texts.ptr()) != 0) {
      take(texts, 0);
    } else {
      const std::string wanted = "texts must be an iterable of " + wanted_items() + ", got " + type_name(texts);
      if (is_bytes(texts)) throw py::type_error(wanted);
      Index index = 0;
      const py::object iterator = iterator_of(texts, wanted);
      for (;;) {
        if (index % kYield == kYield - 1) yield_gil();
        const py::object item = next_of(iterator);
        if (!item) break;
        take(item, index++);
      }
    }
    count();
  }

 private:
  /// Code units in a batch: enough work for all threads, little memory compared with the table.
  static constexpr Index kBatch = 1 << 23;

  static bool is_bytes(const py::handle& object) {
    return PyBytes_Check(object.ptr()) != 0 || PyByteArray_Check(object.ptr()) != 0;
  }

  static py::object iterator_of(const py::handle& object, const std::string& message) {
    PyObject* const iterator = run_python([&] { return PyObject_GetIter(object.ptr()); });
    if (iterator != nullptr) return py::reinterpret_steal<py::object>(iterator);
    py::error_already_set error;
    if (error.matches(PyExc_TypeError)) throw py::type_error(message);
    throw error;
  }

  /// The next item, or null at the end.
  static py::object next_of(const py::object& iterator) {
    PyObject* const item = run_python([&] { return PyIter_Next(iterator.ptr()); });
    if (item == nullptr && PyErr_Occurred() != nullptr) throw py::error_already_set();
    return py::reinterpret_steal<py::object>(item);
  }

  std::string wanted_items() const { return tally_.level() == NgramLevel::kChar ? "str" : "str or sequences of str"; }

  void take(const py::handle& item, Index index) {
    const std::string name = "texts[" + std::to_string(index) + "]";
    if (PyUnicode_Check(item.ptr()) != 0) {
      texts_.push_back(held(item));
    } else if (tally_.level() == NgramLevel::kWord && PySequence_Check(item.ptr()) != 0 && !is_bytes(item)) {
      const py::object words = iterator_of(item, name + " must be a sequence of str");
      while (const py::object word = next_of(words)) {
        if (PyUnicode_Check(word.ptr()) == 0) {
          throw py::type_error("the words of " + name + " must be str, got " + type_name(word));
        }
        words_.push_back(held(word));
      }
      ends_.push_back(static_cast<Index>(words_.size()));
    } else {
      const char* const what =
          tally_.level() == NgramLevel::kChar ? " must be a str" : " must be a str or a sequence of str";
      throw py::type_error(name + what + ", got " + type_name(item));
    }
    if (units_ >= kBatch) count();
  }

  TextView held(const py::handle& text) {
    const TextView view = text_of(text);
    owners_.push_back(py::reinterpret_borrow<py::object>(text));
    units_ += view.size + 1;
    return view;
  }

  void count() {
    without_gil([] {},
                [&] {
                  tally_.count(texts_, threads_);
                  if (!ends_.empty()) tally_.count_words(words_, ends_, threads_);
                });
    if (PyErr_CheckSignals() != 0) throw py::error_already_set();
    texts_.clear();
    words_.clear();
    ends_.clear();
    owners_.clear();
    units_ = 0;
  }

  NgramTally& tally_;
  Index threads_;
  Index units_ = 0;
  std::vector<TextView> texts_;
  std::vector<TextView> words_;
  std::vector<Index> ends_;
  std::vector<py::object> owners_;
};

inline py::list strings_of(const Words& words) {
  py::list result;
  for (Symbol word = 0; word < words.size(); ++word) {
    if (word % kYield == kYield - 1) yield_gil();
    const std::string_view letters = words[word];
    PyObject* const text =
        PyUnicode_DecodeUTF8(letters.data(), static_cast<py::ssize_t>(letters.size()), "surrogatepass");
    if (text == nullptr) throw py::error_already_set();
    result.append(py::reinterpret_steal<py::object>(text));
  }
  return result;
}

/// The n-gram in Python: a str of n characters, or a tuple of n words.
inline py::object ngram_of(const Symbol* symbols, Index n, NgramLevel level, const py::list& words) {
  if (level == NgramLevel::kChar) {
    PyObject* const text = PyUnicode_FromKindAndData(PyUnicode_4BYTE_KIND, symbols, n);
    if (text == nullptr) throw py::error_already_set();
    return py::reinterpret_steal<py::object>(text);
  }
  py::tuple result(n);
  for (Index i = 0; i < n; ++i) result[i] = words[symbols[i]];
  return std::move(result);
}

/// Calls read(tally) without the GIL.
template <class Read>
auto read_tally(const NgramCounts& counts, Read read) {
  return without_gil([] {},
                     [&] { return counts.read([&](const NgramTally& tally) { return std::invoke(read, tally); }); });
}

inline py::list most_common(const NgramCounts& self, Index k) {
  const auto [list, numbered] =
      read_tally(self, [k](const NgramTally& tally) { return std::pair(tally.most_common(k), tally.words()); });
  const py::list words = strings_of(numbered);
  py::list result;
  for (std::size_t i = 0; i < list.counts.size(); ++i) {
    if (i % kYield == kYield - 1) yield_gil();
    const Symbol* const symbols = list.symbols.data() + i * static_cast<std::size_t>(self.n());
    result.append(py::make_tuple(ngram_of(symbols, self.n(), self.level(), words), list.counts[i]));
  }
  return result;
}

inline py::tuple state_of(const NgramCounts& self) {
  const auto [list, words] =
      read_tally(self, [](const NgramTally& tally) { return std::pair(tally.list(), tally.words()); });
  const Index rows = static_cast<Index>(list.counts.size());
  const Array<Symbol> ngrams({rows, self.n()}, list.symbols.data());
  const Array<Index> counts({rows}, list.counts.data());
  return py::make_tuple(strings_of(words), ngrams, counts);
}

inline std::shared_ptr<NgramCounts> counts_of_state(Index n, const std::string& level, const py::list& words,
                                                    const Array<Symbol>& ngrams, const Array<Index>& counts) {
  if (ngrams.ndim() != 2 || counts.ndim() != 1 || ngrams.shape(1) != n || ngrams.shape(0) != counts.shape(0)) {
    throw py::value_error("the state of NgramCounts has n-grams of shape " + shape_text(ngrams.shape(), ngrams.ndim()) +
                          " and counts of shape " + shape_text(counts.shape(), counts.ndim()) +
                          " at n=" + std::to_string(n));
  }
  Words numbered;
  for (const py::handle word : words) {
    if (numbered.size() % kYield == kYield - 1) yield_gil();
    const py::bytes letters = word.attr("encode")("utf-8", "surrogatepass");
    const Index next = numbered.size();
    if (numbered.number(std::string_view(letters)) != next) {
      throw py::value_error("the state of NgramCounts holds a word twice");
    }
  }
  NgramList list;
  list.symbols.assign(ngrams.data(), ngrams.data() + ngrams.size());
  list.counts.assign(counts.data(), counts.data() + counts.size());
  const NgramLevel its_level = level_of(level);
  return without_gil(
      [] {}, [&] { return std::make_shared<NgramCounts>(NgramTally(n, its_level, std::move(numbered), list)); });
}

}  // namespace ngrams

inline void bind_ngrams(py::module_& module) {
  using namespace ngrams;
  using C = NgramCounts;
  py::class_<C, std::shared_ptr<C>>(module, "NgramCounts")
      .def(py::init([](Index n, const std::string& level) { return std::make_shared<C>(n, level_of(level)); }),
           py::arg("n"), py::arg("level"))
      .def_property_readonly("n", &C::n)
      .def_property_readonly("level", [](const C& self) { return name_of(self.level()); })
      .def_property_readonly("num_ngrams", [](const C& self) { return read_tally(self, &NgramTally::num_ngrams); })
      .def_property_readonly("num_distinct", [](const C& self) { return read_tally(self, &NgramTally::num_distinct); })
      .def_property_readonly("nbytes", [](const C& self) { return read_tally(self, &NgramTally::num_bytes); })
      .def(
          "update",
          [](C& self, const py::object& texts, Index threads) {
            NgramTally fresh(self.n(), self.level());
            TextBatch(fresh, threads).take_all(texts);
            without_gil([] {}, [&] { self.add(std::move(fresh), threads); });
          },
          py::arg("texts"), py::arg("threads"))
      .def(
          "merge", [](C& self, const C& other) { without_gil([] {}, [&] { self.merge(other); }); }, py::arg("other"))
      .def("reset", [](C& self) { without_gil([] {}, [&] { self.reset(); }); })
      .def("most_common", &ngrams::most_common, py::arg("k"))
      .def("copy", [](const C& self) { return without_gil([] {}, [&] { return std::make_shared<C>(self); }); })
      .def("state", &ngrams::state_of)
      .def_static("from_state", &ngrams::counts_of_state, py::arg("n"), py::arg("level"), py::arg("words"),
                  py::arg("ngrams"), py::arg("counts"))
      .def(
          "equals",
          [](const C& self, const C& other) { return without_gil([] {}, [&] { return self.equals(other); }); },
          py::arg("other"));
  module.def(
      "ngram_jsd", [](const C& a, const C& b) { return without_gil([] {}, [&] { return ngram_jsd(a, b); }); },
      py::arg("a"), py::arg("b"));
}

}  // namespace fidfast::bindings
