package domain

import "strings"

// currencyCodes lists the active codes of ISO 4217 (list one, amendment 179), each between blanks.
const currencyCodes = " AED AFN ALL AMD AOA ARS AUD AWG AZN BAM BBD BDT BGN BHD BIF BMD BND BOB BOV BRL BSD BTN BWP BYN " +
	"BZD CAD CDF CHE CHF CHW CLF CLP CNY COP COU CRC CUP CVE CZK DJF DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS GIP " +
	"GMD GNF GTQ GYD HKD HNL HTG HUF IDR ILS INR IQD IRR ISK JMD JOD JPY KES KGS KHR KMF KPW KRW KWD KYD KZT LAK LBP LKR " +
	"LRD LSL LYD MAD MDL MGA MKD MMK MNT MOP MRU MUR MVR MWK MXN MXV MYR MZN NAD NGN NIO NOK NPR NZD OMR PAB PEN PGK PHP " +
	"PKR PLN PYG QAR RON RSD RUB RWF SAR SBD SCR SDG SEK SGD SHP SLE SOS SRD SSP STN SVC SYP SZL THB TJS TMT TND TOP TRY " +
	"TTD TWD TZS UAH UGX USD USN UYI UYU UYW UZS VED VES VND VUV WST XAD XAF XAG XAU XBA XBB XBC XBD XCD XCG XDR XOF XPD " +
	"XPF XPT XSU XTS XUA XXX YER ZAR ZMW ZWG "

// Currencies of ISO 4217 whose amounts have other than two decimals; those that are no money have none.
const (
	withoutDecimals = " BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XAG XAU XBA XBB XBC XBD XDR XOF XPD XPF XPT " +
		"XSU XTS XUA XXX "
	threeDecimals = " BHD IQD JOD KWD LYD OMR TND "
	fourDecimals  = " CLF UYW "
)

// Decimals returns how many decimals amounts of the currency have: 2 of EUR, 0 of JPY, 3 of KWD.
func (c Currency) Decimals() int32 {
	code := " " + string(c) + " "
	switch {
	case strings.Contains(withoutDecimals, code):
		return 0
	case strings.Contains(threeDecimals, code):
		return 3
	case strings.Contains(fourDecimals, code):
		return 4
	}
	return 2
}
