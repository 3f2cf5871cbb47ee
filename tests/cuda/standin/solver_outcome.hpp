// What a test wants the next factorisation to report; 0: the truth.
#pragma once

namespace standin {

void set_next_info(int info);
int take_next_info();

}  // namespace standin
